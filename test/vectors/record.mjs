/**
 * How the vectors beside this file were recorded: `node test/vectors/record.mjs`, as root on Debian 12 (OpenSSH 9.2p1).
 *
 * Real clients (ssh-add, ssh, ssh-keygen) talk to the real /usr/bin/ssh-agent through a proxy that keeps each frame.
 * NAME.bin is one frame, its length field included; NAME.json says who sent it and what it must decode to. What it must
 * decode to is put together here from what was asked (.pub files, command lines, host keys), never by Latchkey's
 * decoder; signatures are checked with node:crypto.
 *
 * Keys are made for the recording and thrown away. No message that carries a private key is written: requests to add
 * a key are recorded while the tests run (test/unit/wire/vectors.test.ts).
 */
import { execFile, spawn } from 'node:child_process';
import { createHash, createPublicKey, verify } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startProxy } from './proxy.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'latchkey-record-'));
const at = (name) => join(dir, name);
const children = [];

const FAKE_PIN = 'not-a-real-pin';
const FAKE_PASSPHRASE = 'not a real pass phrase';
const NO_LIBRARY = '/usr/lib/no-such-provider.so';

// --- bytes, by hand -------------------------------------------------------------------------------------------------
const u32 = (n) => Buffer.from([n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255]);
const str = (v) => Buffer.concat([u32(Buffer.from(v).length), Buffer.from(v)]);
const hex = (bytes) => ({ $hex: Buffer.from(bytes).toString('hex') });
const pub = (name) => Buffer.from(readFileSync(at(`${name}.pub`), 'utf8').split(' ')[1], 'base64');
const comment = (name) => readFileSync(at(`${name}.pub`), 'utf8').trim().split(' ').slice(2).join(' ');

// --- processes ------------------------------------------------------------------------------------------------------
function run(file, args, { env = {}, input, fails = false } = {}) {
  return new Promise((resolve, reject) => {
    const child = execFile(file, args, { env: { PATH: process.env.PATH, HOME: dir, ...env } }, (error, stdout, stderr) => {
      if (error && !fails) reject(new Error(`${file} ${args.join(' ')}: ${stderr}`));
      else if (!error && fails) reject(new Error(`${file} ${args.join(' ')} was to fail`));
      else resolve(stdout);
    });
    child.stdin.end(input ?? '');
  });
}

async function waitFor(port) {
  for (let i = 0; i < 100; i++) {
    const open = await new Promise((resolve) => {
      const socket = net.connect(port, '127.0.0.1', () => resolve(true) ?? socket.destroy());
      socket.on('error', () => resolve(false));
    });
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error('sshd does not listen');
}

const freePort = () =>
  new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

// --- vectors --------------------------------------------------------------------------------------------------------
const written = new Set();
function save(name, seen, sender, command, expected) {
  if (written.has(name)) throw new Error(`twice: ${name}`);
  written.add(name);
  writeFileSync(join(here, `${name}.bin`), seen.frame);
  const twin = { direction: seen.direction, sender, command, expected };
  writeFileSync(join(here, `${name}.json`), `${JSON.stringify(twin, null, 2)}\n`);
}

function need(condition, what) {
  if (!condition) throw new Error(`not as expected: ${what}`);
}

/** Frames as [number, seen]; the number is the byte after the length. */
const numbers = (frames) => frames.map((seen) => `${seen.direction === 'request' ? '>' : '<'}${seen.frame[4]}`).join(' ');

function expectNumbers(frames, wanted, what) {
  need(numbers(frames) === wanted, `${what}: ${numbers(frames)}, wanted ${wanted}`);
  return frames;
}

// --- signatures, checked without any code of ours -------------------------------------------------------------------
const ed25519Key = (blob) =>
  createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: blob.subarray(19).toString('base64url') }, format: 'jwk' });
function rsaKey(blob) {
  let offset = 11;
  const field = () => {
    const length = blob.readUInt32BE(offset);
    const value = blob.subarray(offset + 4, offset + 4 + length);
    offset += 4 + length;
    return value;
  };
  const e = field();
  const n = field();
  return createPublicKey({
    key: { kty: 'RSA', e: e.toString('base64url'), n: n.subarray(n[0] === 0 ? 1 : 0).toString('base64url') },
    format: 'jwk',
  });
}

/** The signature string that an answer must hold: name and length are known, the value is checked. */
function signatureIn(seen, name, size, check) {
  const value = Buffer.from(seen.frame).subarray(-size);
  need(check(value), `signature of ${name}`);
  const signature = Buffer.concat([str(name), str(value)]);
  return { kind: 'signature', signature: hex(signature) };
}
const ed25519Answer = (seen, blob, data) =>
  signatureIn(seen, 'ssh-ed25519', 64, (value) => verify(null, data, ed25519Key(blob), value));
const rsaAnswer = (seen, blob, data, name, hash) =>
  signatureIn(seen, name, 256, (value) => verify(hash, data, rsaKey(blob), value));

try {
  if (userInfo().uid !== 0) throw new Error('sshd wants root');

  // Keys, certificates, host keys.
  const make = (name, ...args) => run('ssh-keygen', ['-q', '-N', '', '-C', `${name} for the record`, '-f', at(name), ...args]);
  await make('ed25519', '-t', 'ed25519');
  await make('ecdsa', '-t', 'ecdsa', '-b', '384');
  await make('rsa', '-t', 'rsa', '-b', '2048');
  await make('authority', '-t', 'ed25519');
  await make('subject', '-t', 'ed25519');
  await make('host', '-t', 'ed25519');
  await run('ssh-keygen', ['-q', '-s', at('authority'), '-I', 'a certificate', '-n', 'somebody', at('ecdsa.pub')]);

  const agentSocket = at('agent');
  children.push(spawn('/usr/bin/ssh-agent', ['-D', '-a', agentSocket], { stdio: 'ignore' }));
  for (let i = 0; i < 100; i++) {
    try {
      await run('ssh-add', ['-l'], { env: { SSH_AUTH_SOCK: agentSocket }, fails: true });
      break;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  const socket = at('proxy');
  const proxy = await startProxy(socket, agentSocket);
  const askpass = (name, answer) => {
    writeFileSync(at(name), `#!/bin/sh\necho '${answer}'\n`);
    chmodSync(at(name), 0o700);
    return { SSH_AUTH_SOCK: socket, SSH_ASKPASS: at(name), SSH_ASKPASS_REQUIRE: 'force' };
  };
  const env = askpass('askpass-pin', FAKE_PIN);
  const lockEnv = askpass('askpass-lock', FAKE_PASSPHRASE);
  const AGENT = 'ssh-agent 9.2p1';
  const ADD = 'ssh-add 9.2p1';

  // List, empty and full.
  await run('ssh-add', ['-l'], { env, fails: true });
  let f = expectNumbers(proxy.take(), '>11 <12', 'empty list');
  save('list', f[0], ADD, 'ssh-add -l', { kind: 'list' });
  save('identities-none', f[1], AGENT, 'answer to list', { kind: 'identities', identities: [] });

  await run('ssh-add', ['-q', at('ed25519'), at('ecdsa'), at('rsa'), at('authority')], { env });
  f = proxy.take();
  expectNumbers(f, '>17 <6 >17 <6 >17 <6 >17 <6 >17 <6', 'add');
  save('success', f[1], AGENT, 'answer to an added key', { kind: 'success' });
  await run('ssh-add', ['-L'], { env });
  f = expectNumbers(proxy.take(), '>11 <12', 'list');
  const held = ['ed25519', 'ecdsa', 'ecdsa-cert', 'rsa', 'authority'];
  const identities = held.map((name) => ({ blob: hex(pub(name)), comment: comment(name) }));
  save('identities', f[1], AGENT, 'answer to list, four keys and a certificate', { kind: 'identities', identities });

  // Signatures over a message of which we know every byte.
  writeFileSync(at('message'), 'to be signed\n');
  const sshsig = Buffer.concat([
    Buffer.from('SSHSIG'),
    str('file'),
    str(''),
    str('sha512'),
    str(createHash('sha512').update('to be signed\n').digest()),
  ]);
  for (const [name, flags] of [['ed25519', 0], ['rsa', 4]]) {
    await run('ssh-keygen', ['-q', '-Y', 'sign', '-n', 'file', '-f', at(`${name}.pub`), at('message')], { env });
    rmSync(at('message.sig'));
    f = expectNumbers(proxy.take(), '>11 <12 >13 <14', 'sshsig');
    const wanted = { kind: 'sign', blob: hex(pub(name)), data: hex(sshsig), flags };
    save(`sign-sshsig-${name}`, f[2], 'ssh-keygen 9.2p1', `ssh-keygen -Y sign -n file -f ${name}.pub`, wanted);
    const answer = name === 'rsa' ? rsaAnswer(f[3], pub(name), sshsig, 'rsa-sha2-512', 'sha512') : ed25519Answer(f[3], pub(name), sshsig);
    save(`signature-${name}`, f[3], AGENT, `answer to sign-sshsig-${name}`, answer);
  }

  // A certificate to be signed with an authority in the agent. What is signed is the certificate without its signature.
  await run('ssh-keygen', ['-q', '-U', '-s', at('authority.pub'), '-I', 'by the agent', '-n', 'somebody', '-z', '7', at('subject.pub')], { env });
  f = expectNumbers(proxy.take(), '>11 <12 >13 <14', 'certificate');
  const issued = pub('subject-cert');
  const unsigned = issued.subarray(0, issued.length - (4 + 4 + 11 + 4 + 64));
  save('sign-certificate', f[2], 'ssh-keygen 9.2p1', 'ssh-keygen -U -s authority.pub -I ... subject.pub', {
    kind: 'sign',
    blob: hex(pub('authority')),
    data: hex(unsigned),
    flags: 0,
  });
  save('signature-certificate', f[3], AGENT, 'answer to sign-certificate', ed25519Answer(f[3], pub('authority'), unsigned));

  // ssh-add -T signs random bytes.
  await run('ssh-add', ['-T', at('rsa.pub')], { env });
  f = expectNumbers(proxy.take(), '>13 <14', 'test');
  const random = Buffer.from(f[0].frame).subarray(-1024 - 4, -4);
  save('sign-test-rsa', f[0], ADD, 'ssh-add -T rsa.pub', { kind: 'sign', blob: hex(pub('rsa')), data: hex(random), flags: 0 });
  save('signature-rsa-sha1', f[1], AGENT, 'answer to sign-test-rsa', rsaAnswer(f[1], pub('rsa'), random, 'ssh-rsa', 'sha1'));

  // A log-in, and a second one through its forwarded agent.
  mkdirSync('/run/sshd', { recursive: true });
  const port = await freePort();
  const user = userInfo().username;
  writeFileSync(at('authorized'), ['ed25519', 'rsa', 'ecdsa'].map((name) => readFileSync(at(`${name}.pub`), 'utf8')).join(''));
  chmodSync(at('authorized'), 0o600);
  writeFileSync(
    at('sshd_config'),
    [`Port ${port}`, 'ListenAddress 127.0.0.1', `HostKey ${at('host')}`, `AuthorizedKeysFile ${at('authorized')}`, 'UsePAM no',
      'StrictModes no', 'PermitRootLogin yes', 'PasswordAuthentication no', 'KbdInteractiveAuthentication no',
      `PidFile ${at('sshd.pid')}`, 'AllowAgentForwarding yes', ''].join('\n'),
  );
  children.push(spawn('/usr/sbin/sshd', ['-D', '-e', '-f', at('sshd_config')], { stdio: 'ignore' }));
  await waitFor(port);
  writeFileSync(at('known'), `[127.0.0.1]:${port} ${readFileSync(at('host.pub'), 'utf8')}`);
  const ssh = (more, command) =>
    run('ssh', ['-F', 'none', '-p', String(port), '-o', `UserKnownHostsFile=${at('known')}`, '-o', 'IdentitiesOnly=yes',
      '-o', 'BatchMode=yes', ...more, '127.0.0.1', command], { env });

  /** The session id of a bind, which starts where the known host key ends. */
  const bindSession = (frame) => {
    const start = 5 + 4 + 'session-bind@openssh.com'.length + 4 + pub('host').length;
    return Buffer.from(frame).subarray(start + 4, start + 4 + Buffer.from(frame).readUInt32BE(start));
  };
  const bind = (seen, forwarding) => {
    const id = bindSession(seen.frame);
    const signature = Buffer.from(seen.frame).subarray(-65, -1);
    need(verify(null, id, ed25519Key(pub('host')), signature), 'host signature over the session id');
    const body = Buffer.concat([
      str(pub('host')),
      str(id),
      str(Buffer.concat([str('ssh-ed25519'), str(signature)])),
      Buffer.from([forwarding ? 1 : 0]),
    ]);
    return {
      kind: 'extension',
      name: 'session-bind@openssh.com',
      body: hex(body),
      $bind: {
        hostKey: hex(pub('host')),
        sessionId: hex(id),
        signature: hex(Buffer.concat([str('ssh-ed25519'), str(signature)])),
        isForwarding: forwarding,
      },
    };
  };
  const userauth = (id, algorithm, blob) =>
    Buffer.concat([str(id), Buffer.from([50]), str(user), str('ssh-connection'), str('publickey-hostbound-v00@openssh.com'),
      Buffer.from([1]), str(algorithm), str(blob), str(pub('host'))]);

  for (const [name, algorithm, flags] of [['ed25519', 'ssh-ed25519', 0], ['rsa', 'rsa-sha2-512', 4], ['rsa', 'rsa-sha2-256', 2]]) {
    await ssh(['-i', at(`${name}.pub`), '-o', `PubkeyAcceptedAlgorithms=${algorithm}`], 'true');
    f = expectNumbers(proxy.take(), '>27 <6 >11 <12 >13 <14', 'log-in');
    if (name === 'ed25519') save('session-bind', f[0], 'ssh 9.2p1', 'ssh -i ed25519.pub host', bind(f[0], false));
    const data = userauth(bindSession(f[0].frame), algorithm, pub(name));
    save(`sign-login-${algorithm}`, f[4], 'ssh 9.2p1', `ssh -i ${name}.pub host`, { kind: 'sign', blob: hex(pub(name)), data: hex(data), flags });
    if (flags === 2) save('signature-rsa-sha2-256', f[5], AGENT, 'answer to sign-login-rsa-sha2-256', rsaAnswer(f[5], pub('rsa'), data, algorithm, 'sha256'));
  }
  await ssh(['-A', '-i', at('ed25519.pub')], 'ssh-add -l');
  f = proxy.take();
  const forwarded = f.filter((seen) => seen.direction === 'request' && seen.frame[4] === 27 && seen.frame.at(-1) === 1);
  need(forwarded.length === 1, `one forwarded bind: ${numbers(f)}`);
  save('session-bind-forwarded', forwarded[0], 'ssh 9.2p1', 'ssh -A -i ed25519.pub host ssh-add -l', bind(forwarded[0], true));

  // Removing.
  await run('ssh-add', ['-q', '-d', at('ecdsa')], { env });
  f = expectNumbers(proxy.take(), '>18 <6 >18 <6', 'remove');
  save('remove', f[0], ADD, 'ssh-add -d ecdsa', { kind: 'remove', blob: hex(pub('ecdsa')) });
  save('remove-certificate', f[2], ADD, 'ssh-add -d ecdsa, its certificate', { kind: 'remove', blob: hex(pub('ecdsa-cert')) });
  await run('ssh-add', ['-q', '-d', at('ecdsa')], { env, fails: true });
  f = proxy.take();
  save('failure', f[1], AGENT, 'answer to a key that is not held', { kind: 'failure' });
  await run('ssh-add', ['-q', '-D'], { env });
  f = expectNumbers(proxy.take(), '>19 <6 >9 <6', 'remove all');
  save('remove-all', f[0], ADD, 'ssh-add -D', { kind: 'removeAll', version: 2 });
  save('remove-all-v1', f[2], ADD, 'ssh-add -D, its second request', { kind: 'removeAll', version: 1 });

  // Tokens. There is none: the agent refuses, but the request has been said.
  writeFileSync(at('known-hop'), `hop.example.org ${readFileSync(at('host.pub'), 'utf8')}@cert-authority *.example.net ${readFileSync(at('authority.pub'), 'utf8')}`);
  const hop = { user: '', hostname: 'hop.example.org', keys: [{ blob: hex(pub('host')), isAuthority: false }] };
  const here0 = { user: '', hostname: '', keys: [] };
  const far = { user: 'deploy', hostname: 'far.example.net', keys: [{ blob: hex(pub('authority')), isAuthority: true }] };
  const tokens = [
    ['add-token', ['-s', NO_LIBRARY], 20, {}],
    ['add-token-lifetime', ['-t', '90', '-s', NO_LIBRARY], 26, { lifetime: 90 }],
    ['add-token-confirm', ['-c', '-s', NO_LIBRARY], 26, { confirm: true }],
    ['add-token-destinations', ['-c', '-t', '1h', '-H', at('known-hop'), '-h', 'hop.example.org', '-h', 'hop.example.org>deploy@far.example.net', '-s', NO_LIBRARY], 26,
      { lifetime: 3600, confirm: true, destinations: [{ from: here0, to: hop }, { from: hop, to: far }] }],
  ];
  for (const [name, args, number, constraints] of tokens) {
    await run('ssh-add', args, { env, fails: true });
    f = expectNumbers(proxy.take(), `>${number} <5`, name);
    const command = `ssh-add ${args.join(' ')}`.replaceAll(dir, 'DIR');
    save(name, f[0], ADD, command, { kind: 'addToken', provider: NO_LIBRARY, pin: hex(FAKE_PIN), constraints });
  }
  await run('ssh-add', ['-e', NO_LIBRARY], { env, fails: true });
  f = expectNumbers(proxy.take(), '>21 <5', 'remove token');
  save('remove-token', f[0], ADD, `ssh-add -e ${NO_LIBRARY}`, { kind: 'removeToken', provider: NO_LIBRARY, pin: hex('') });
  await run('ssh-add', ['-t', '90', '-c', '-e', NO_LIBRARY], { env, fails: true });
  f = expectNumbers(proxy.take(), '>21 <5', 'remove token with bounds');
  save('remove-token-constrained', f[0], ADD, `ssh-add -t 90 -c -e ${NO_LIBRARY}`, {
    kind: 'removeToken',
    provider: NO_LIBRARY,
    pin: hex(''),
    $ignored: hex([1, 0, 0, 0, 90, 2]),
  });

  // Lock.
  await run('ssh-add', ['-x'], { env: lockEnv });
  f = expectNumbers(proxy.take(), '>22 <6', 'lock');
  save('lock', f[0], ADD, 'ssh-add -x', { kind: 'lock', passphrase: hex(FAKE_PASSPHRASE) });
  await run('ssh-add', ['-X'], { env: lockEnv });
  f = expectNumbers(proxy.take(), '>23 <6', 'unlock');
  save('unlock', f[0], ADD, 'ssh-add -X', { kind: 'unlock', passphrase: hex(FAKE_PASSPHRASE) });

  // What no 9.2 client says; sent by this script, so the agent's answer is what is recorded.
  for (const [name, message, expected] of [
    ['query', Buffer.concat([Buffer.from([27]), str('query')]), { kind: 'extension', name: 'query', body: hex('') }],
    ['list-v1', Buffer.from([1]), { kind: 'unknown', number: 1 }],
  ]) {
    await new Promise((resolve, reject) => {
      const client = net.connect(socket, () => client.write(Buffer.concat([u32(message.length), message])));
      client.once('data', () => resolve(client.end()));
      client.once('error', reject);
    });
    f = expectNumbers(proxy.take(), `>${message[0]} <5`, name);
    save(name, f[0], 'record.mjs', 'by hand', expected);
    save(`failure-${name}`, f[1], AGENT, `answer to ${name}`, { kind: 'failure' });
  }
  await proxy.close();
  // Others keep their recordings here too: nothing is removed that this run did not write.
  const files = readdirSync(here);
  for (const name of files.filter((file) => file.endsWith('.bin')).map((file) => file.slice(0, -4)))
    if (!written.has(name) && files.includes(`${name}.json`)) console.log(`no longer recorded, remove it by hand: ${name}`);
  console.log(`${written.size} vectors`);
} finally {
  for (const child of children) child.kill('SIGTERM');
  rmSync(dir, { recursive: true, force: true });
}
