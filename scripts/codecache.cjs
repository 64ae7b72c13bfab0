// Compiles the code of a program, lets it do what most of its runs do, and stores what V8 made of it, which then spares
// each start the parsing. What it meets meanwhile is made up: an agent that says yes, a fresh key, an empty home folder.
//   node scripts/codecache.cjs CODE CACHE [list|add|agent]
const { generateKeyPairSync } = require('node:crypto');
const { mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs');
const { connect, createServer } = require('node:net');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { Script } = require('node:vm');
const { isMainThread, parentPort, Worker, workerData } = require('node:worker_threads');

const string = (bytes) => {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(bytes.length);
  return Buffer.concat([head, bytes]);
};

/** A list of one Ed25519 key; to all else that it worked. */
function answer(request) {
  if (request[4] !== 11) return string(Buffer.of(6));
  const blob = Buffer.concat([string(Buffer.from('ssh-ed25519')), string(Buffer.alloc(32, 1))]);
  const identity = Buffer.concat([string(blob), string(Buffer.from('rehearsal'))]);
  return string(Buffer.concat([Buffer.of(12, 0, 0, 0, 1), identity]));
}

/** A client that lists what the agent at `path` holds, as soon as it answers, and then ends this process. */
function ask(path) {
  const socket = connect(path, () => socket.write(string(Buffer.of(11))));
  socket.on('error', () => setTimeout(ask, 5, path));
  socket.on('data', () => process.exit());
}

/** Answers on a thread of its own: a program that asks once blocks until it has its answer. */
const serve = (then) => new Worker(__filename, { workerData: process.env.SSH_AUTH_SOCK }).once('message', then);

const rehearsals = {
  agent() {
    process.argv = [process.execPath, code, '-D', '-a', process.env.SSH_AUTH_SOCK];
    program(exports, require, module, __filename, __dirname);
    ask(process.env.SSH_AUTH_SOCK);
  },
  list() {
    process.argv = [process.execPath, code, '-l'];
    serve(() => program(exports, require, module, __filename, __dirname));
  },
  add() {
    const key = join(process.env.HOME, 'key');
    const { privateKey } = generateKeyPairSync('ed25519');
    writeFileSync(key, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
    const library = { exports: {} };
    program(library.exports, require, library, __filename, __dirname);
    serve(async () => process.exit(await library.exports.runAction([key], process.env)));
  },
};

function rehearse() {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-build-'));
  process.env.HOME = folder;
  process.env.SSH_AUTH_SOCK = join(folder, 'agent');
  process.on('exit', () => {
    rmSync(folder, { recursive: true, force: true });
    store();
  });
  rehearsals[rehearsal]();
}

const [code, cache, rehearsal] = process.argv.slice(2);
let script;
let program;
const store = () => writeFileSync(cache, script.createCachedData());

if (!isMainThread) {
  createServer((socket) => socket.on('data', (request) => socket.write(answer(request)))).listen(workerData, () =>
    parentPort.postMessage('listening'),
  );
} else {
  script = new Script(readFileSync(code, 'utf8'), { filename: code });
  program = script.runInThisContext();
  if (rehearsal === undefined) store();
  else rehearse();
}
