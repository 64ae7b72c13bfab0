// The agents that are measured: how each is started on a socket of ours, and what to know about its figures. Each runs
// in a folder of its own with a HOME of its own, in a process group of its own, and is ended with the run.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';

const which = (name) =>
  ['/usr/bin', '/bin', '/usr/local/bin'].map((folder) => join(folder, name)).find((path) => existsSync(path));

const firstLine = (command, ...args) => {
  const run = spawnSync(command, args, { encoding: 'utf8', env: { PATH: '/usr/bin:/bin' } });
  return `${run.stdout ?? ''}${run.stderr ?? ''}`.split('\n')[0].trim();
};

/** How long a person takes for an answer in the measurement where one is asked, in seconds. */
export const ANSWER_SECONDS = 1;

/** Stands in for askpass: says yes after a while. */
const ASKPASS = `#!/bin/sh\nsleep ${ANSWER_SECONDS}\necho yes\n`;
/** Stands in for pinentry: no pass phrase for keys that are added, yes after a while where it is asked. */
const PINENTRY = `#!/bin/sh
echo OK ready
while read -r word rest; do
  case $word in
    BYE) echo OK; exit 0 ;;
    CONFIRM) sleep ${ANSWER_SECONDS}; echo OK ;;
    *) echo OK ;;
  esac
done
`;

/**
 * The agents that are to be had here: { id, label, note, command(folder): { words, socket, env } }.
 * @param {{ build: string, work: string }} places our built checkout, a folder for what has to be compiled
 */
export function findAgents({ build, work }) {
  const agents = [];
  const missing = [];
  const plain = (words) => (folder) => ({ words: words(join(folder, 's')), socket: join(folder, 's') });
  agents.push({
    id: 'latchkey',
    label: 'Latchkey',
    version: `Node ${process.version}`,
    note: '',
    command: plain((socket) => [join(build, 'bin/ssh-agent'), '-D', '-a', socket]),
  });
  if (existsSync('/usr/bin/ssh-agent')) {
    agents.push({
      id: 'openssh',
      label: 'OpenSSH',
      version: firstLine('/usr/bin/ssh', '-V'),
      note: '',
      command: plain((socket) => ['/usr/bin/ssh-agent', '-D', '-a', socket]),
    });
  } else missing.push('OpenSSH: no /usr/bin/ssh-agent');
  const keyring = buildKeyring(work);
  if (keyring !== undefined) {
    agents.push({
      id: 'go',
      label: "Go's keyring",
      version: `x/crypto, ${firstLine('go', 'version')}`,
      note: 'x/crypto/ssh/agent as a library has it: no lifetime timer, no confirmation, keys in the heap',
      command: plain((socket) => [keyring, socket]),
    });
  } else missing.push("Go's keyring: needs golang-go and golang-golang-x-crypto-dev");
  if (which('gpg-agent') !== undefined) {
    agents.push({
      id: 'gpg',
      label: 'gpg-agent',
      version: firstLine('gpg-agent', '--version'),
      note: 'keys are files on disk, read and parsed anew for each signature; added without a pass phrase',
      slowAdd: true,
      idleConnections: 200,
      command(folder) {
        const pinentry = join(folder, 'pinentry');
        writeFileSync(pinentry, PINENTRY, { mode: 0o755 });
        writeFileSync(join(folder, 'gpg-agent.conf'), `pinentry-program ${pinentry}\nallow-preset-passphrase\n`);
        const socket = spawnSync('gpgconf', ['--homedir', folder, '--list-dirs', 'agent-ssh-socket'], {
          encoding: 'utf8',
        }).stdout.trim();
        const words = ['gpg-agent', '--homedir', folder, '--enable-ssh-support', '--daemon', 'sleep', '86400'];
        return { words, socket: decodeURIComponent(socket) };
      },
    });
  } else missing.push('gpg-agent: not installed');
  if (which('pageant') !== undefined) {
    agents.push({
      id: 'pageant',
      label: 'pageant',
      version: firstLine('pageant', '--version'),
      note: 'arithmetic that takes the same time for any number; keys are added with no constraint, which it has none of',
      command: (folder) => ({
        words: ['pageant', '--symlink', join(folder, 's'), '--exec', 'sleep', '86400'],
        socket: join(folder, 's'),
      }),
    });
  } else missing.push('pageant: not installed');
  if (which('gnome-keyring-daemon') !== undefined) {
    agents.push({
      id: 'gnome',
      label: 'gnome-keyring',
      version: firstLine('gnome-keyring-daemon', '--version'),
      note: "passes requests on to an OpenSSH agent that it starts: its figures are that one's and a second hop",
      command: (folder) => ({
        words: ['gnome-keyring-daemon', '--foreground', '--components=ssh', `--control-directory=${folder}`],
        socket: join(folder, 'ssh'),
      }),
    });
  } else missing.push('gnome-keyring: not installed');
  return { agents, missing };
}

function buildKeyring(work) {
  if (which('go') === undefined) return undefined;
  const out = join(work, 'keyring');
  const run = spawnSync('go', ['build', '-o', out, join(import.meta.dirname ?? '', 'keyring.go')], {
    env: { PATH: '/usr/bin:/bin', HOME: work, GO111MODULE: 'off', GOPATH: '/usr/share/gocode', GOFLAGS: '' },
    encoding: 'utf8',
  });
  return run.status === 0 ? out : undefined;
}

/** What every measured process gets: nothing of ours but a path. NODE_EXTRA_CA_CERTS alone would cost Node 50 ms. */
export const plainEnvironment = (folder, more = {}) => ({ PATH: '/usr/bin:/bin', HOME: folder, LC_ALL: 'C', ...more });

const running = new Set();
let counter = 0;

/** Many connections need many descriptors. */
export const withDescriptors = (words) => ['sh', '-c', 'ulimit -n "$(ulimit -H -n)"; exec "$@"', 'sh', ...words];

/** A folder for one agent: short, since a socket's path has 107 bytes. */
export function newFolder(work) {
  const folder = join(work, String(++counter));
  mkdirSync(folder, { mode: 0o700 });
  return folder;
}

/**
 * How to start it: words, socket, environment.
 * @param fill given the folder, which is its home, before it starts
 */
export function prepare(agent, work, fill = () => {}) {
  const folder = newFolder(work);
  fill(folder);
  const askpass = join(folder, 'askpass');
  writeFileSync(askpass, ASKPASS, { mode: 0o755 });
  const { words, socket } = agent.command(folder);
  const env = plainEnvironment(folder, { SSH_ASKPASS: askpass, SSH_ASKPASS_REQUIRE: 'force', DISPLAY: ':none' });
  return { folder, words, socket, env };
}

/** Starts it and waits until it listens. @returns { agent, socket, pids(), stop() } */
export async function start(agent, work, fill) {
  const { folder, words, socket, env } = prepare(agent, work, fill);
  const [file, ...args] = withDescriptors(words);
  const child = spawn(file, args, { cwd: folder, env, stdio: 'ignore', detached: true });
  let ended = false;
  child.on('exit', () => {
    ended = true;
  });
  const one = {
    agent,
    socket,
    /** The agent's process and what it started, but pageant's idle command. */
    pids: () => family(child.pid).filter((pid) => !commandOf(pid).startsWith('sleep')),
    async stop() {
      running.delete(one);
      // What it started first: a helper may have left the process group.
      for (const pid of family(child.pid).reverse()) signal(pid, 'SIGTERM');
      for (let i = 0; i < 200 && !ended; i++) await pause(10);
      for (const pid of family(child.pid)) signal(pid, 'SIGKILL');
      if (agent.id === 'gpg') spawnSync('gpgconf', ['--homedir', folder, '--remove-socketdir']);
      rmSync(folder, { recursive: true, force: true });
    },
  };
  running.add(one);
  for (let i = 0; ; i++) {
    if (await answers(socket)) return one;
    if (i > 500 || ended) {
      await one.stop();
      throw new Error(`${agent.label} does not answer`);
    }
    await pause(10);
  }
}

export async function stopAll() {
  for (const one of [...running]) await one.stop();
}

/** A process and its descendants. */
function family(pid) {
  const found = [pid];
  for (const at of found) {
    try {
      for (const task of readdirSync(`/proc/${at}/task`)) {
        const text = readFileSync(`/proc/${at}/task/${task}/children`, 'utf8').trim();
        if (text !== '') found.push(...text.split(' ').map(Number));
      }
    } catch {
      // Gone meanwhile.
    }
  }
  return found.filter((at) => existsSync(`/proc/${at}`));
}

function commandOf(pid) {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
}

function signal(pid, name) {
  try {
    process.kill(pid, name);
  } catch {
    // Gone already.
  }
}

export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Sends one framed request, returns the whole message that answers, or undefined. */
export function ask(socket, request, milliseconds = 20_000) {
  return new Promise((resolve) => {
    const chunks = [];
    const connection = createConnection(socket);
    const finish = (message) => {
      clearTimeout(timer);
      connection.destroy();
      resolve(message);
    };
    const timer = setTimeout(finish, milliseconds);
    connection.on('error', () => finish(undefined));
    connection.on('close', () => finish(undefined));
    connection.on('data', (chunk) => {
      chunks.push(chunk);
      const all = Buffer.concat(chunks);
      if (all.length >= 4 && all.length >= 4 + all.readUInt32BE(0)) finish(all.subarray(4, 4 + all.readUInt32BE(0)));
    });
    connection.write(request);
  });
}

async function answers(socket) {
  const message = existsSync(socket) ? await ask(socket, Buffer.from([0, 0, 0, 1, 11]), 2000) : undefined;
  return message?.[0] === 12;
}
