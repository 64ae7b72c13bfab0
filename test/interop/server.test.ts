/** The built agent's sockets, attacked from outside: what real and hostile clients send, one by one and by the thousand. */
import { spawn, spawnSync } from 'node:child_process';
import { createPublicKey, randomBytes, verify } from 'node:crypto';
import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type AgentProcess,
  addMessage,
  ask,
  blobOf,
  commentsOf,
  FAILURE,
  frame,
  LIST,
  RawClient,
  SUCCESS,
  signMessage,
  startAgentProcess,
  until,
} from '../support/agentprocess.ts';
import { controlBytes, status } from '../support/control.ts';
import { freshEd25519, freshRsa } from '../support/keys.ts';
import { raw, str, u32 } from '../unit/wire/build.ts';

const NOBODY = 65534;
const MAX_FRAME = 262_144;
const isRoot = process.geteuid?.() === 0;
const hex = (answer: Uint8Array | undefined): string => Buffer.from(answer ?? []).toString('hex');
const numbers = (answers: readonly Uint8Array[]): readonly (number | undefined)[] => answers.map(([first]) => first);
const nextTurn = (): Promise<void> => new Promise((done) => setTimeout(done, 1));

const ed = freshEd25519();
const rsa = freshRsa(4096);
let agent: AgentProcess;

beforeAll(async () => {
  agent = await startAgentProcess();
  expect(hex(await ask(agent.socket, addMessage(ed, 'ed')))).toBe(SUCCESS);
  expect(hex(await ask(agent.socket, addMessage(rsa, 'rsa')))).toBe(SUCCESS);
});

afterAll(async () => {
  expect(agent.isAlive()).toBe(true);
  await agent.stop();
});

/** The signature in an answer, checked by node:crypto. */
function isSignedByEd(answer: Uint8Array | undefined, data: string): boolean {
  const bytes = Buffer.from(answer ?? []);
  if (bytes[0] !== 14) return false;
  const { publicKey } = ed;
  return publicKey !== undefined && verify(null, Buffer.from(data), publicKey, bytes.subarray(-64));
}

describe('who may connect', () => {
  it.each(['0', '022', '077', '0377'])('makes its sockets with mode 0600 under umask %s', async (umask) => {
    const other = await startAgentProcess({ wrapper: ['/bin/sh', '-c', `umask ${umask}; exec "$@"`, 'sh'] });
    try {
      for (const path of [other.socket, `${other.socket}.control`]) expect(statSync(path).mode & 0o777).toBe(0o600);
      expect(hex(await ask(other.socket, LIST))).toBe('0c00000000');
    } finally {
      await other.stop();
    }
  });

  /** Connects as `uid`, sends a request, and gives what came in hexadecimal, or the error. */
  function asUser(uid: number, path: string, request: Uint8Array): string {
    const script = `import socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(20)
s.connect(sys.argv[1])
try:
    s.sendall(bytes.fromhex(sys.argv[2])); print(s.recv(4096).hex())
except (BrokenPipeError, ConnectionResetError): print()`;
    const words = [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '/usr/bin/python3', '-c', script];
    const { stdout, stderr } = spawnSync('setpriv', [...words, path, hex(request)], { encoding: 'utf8' });
    if (stdout === '') throw new Error(stderr);
    return stdout.trim();
  }

  it('closes on another user without a byte, on both sockets, and serves root and its own user', async () => {
    expect(isRoot, 'run as root: other users are played').toBe(true);
    const own = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
    const other = await startAgentProcess({ wrapper: own, uid: NOBODY });
    const ask = Buffer.from('{"version":1,"command":"status"}\n');
    try {
      chmodSync(other.folder, 0o755);
      chmodSync(other.socket, 0o666);
      chmodSync(`${other.socket}.control`, 0o666);
      expect(asUser(NOBODY, other.socket, frame(LIST))).toBe('000000050c00000000');
      expect(asUser(0, other.socket, frame(LIST))).toBe('000000050c00000000');
      expect(asUser(NOBODY - 1, other.socket, frame(LIST))).toBe('');
      expect(asUser(NOBODY, `${other.socket}.control`, ask)).toMatch(/^7b/);
      expect(asUser(0, `${other.socket}.control`, ask)).toMatch(/^7b/);
      expect(asUser(NOBODY - 1, `${other.socket}.control`, ask)).toBe('');
      expect((await status(other.socket)).recent.map(({ text }) => text)).toContain(
        `connection refused: uid ${NOBODY - 1} is neither ours nor root`,
      );
    } finally {
      await other.stop();
    }
  });

  it('knows the pid, the program and the ancestors of a connection', async () => {
    const script = `import socket, sys, os
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(os.getpid(), flush=True); sys.stdin.read()`;
    const child = spawn('/bin/sh', ['-c', '/usr/bin/python3 -c "$1" "$2"; :', 'sh', script, agent.socket]);
    try {
      const pid = Number(await new Promise((done) => child.stdout.once('data', done)));
      const found = await until('the connection', async () =>
        (await status(agent.socket)).connections.find((connection) => connection.pid === pid),
      );
      expect(found.uid).toBe(process.geteuid?.());
      const [first, second, third] = found.processes;
      expect(first?.pid).toBe(pid);
      expect(first?.program).toMatch(/\/python3/);
      expect(first?.claimedArguments.slice(-1)).toEqual([agent.socket]);
      expect(second?.pid).toBe(child.pid);
      expect(second?.program).toMatch(/\/(da|ba)?sh$/);
      expect(third?.pid).toBe(process.pid);
    } finally {
      child.stdin.end();
    }
  });
});

describe('the control socket', () => {
  it('answers garbage in words, each line on its own, and goes on', async () => {
    const lines = [
      '',
      'x',
      '[]',
      'null',
      '7',
      '{}',
      '{"version":2,"command":"status"}',
      '{"version":1,"command":"no"}',
    ];
    const odd = '{"version":1,"command":"__proto__"}';
    const answers = (await controlBytes(agent.socket, `${[...lines, odd].join('\n')}\n`)).trim().split('\n');
    expect(answers.map((answer) => JSON.parse(answer).ok)).toEqual(Array(lines.length + 1).fill(false));
    await controlBytes(agent.socket, randomBytes(10_000));
    expect((await status(agent.socket)).pid).toBe(agent.pid);
  });

  it('closes on a line of more than 64 KiB', async () => {
    expect(await controlBytes(agent.socket, 'x'.repeat(70_000))).toBe('');
    expect(await controlBytes(agent.socket, 'x'.repeat(5_000_000))).toBe('');
    expect((await status(agent.socket)).pid).toBe(agent.pid);
  });

  it('does not pile up answers for a client that never reads', async () => {
    const before = agent.residentKib();
    const socket = connect(`${agent.socket}.control`);
    socket.pause();
    socket.on('error', () => {});
    let sent = 0;
    // Until the agent takes no more, or has answered far more than any buffer of the system holds.
    for (const line = '{"version":1,"command":"status"}\n'.repeat(1000); sent < 100; sent++) {
      const taken =
        socket.write(line) ||
        (await Promise.race([
          new Promise((r) => socket.once('drain', () => r(true))),
          new Promise((r) => setTimeout(r, 300, false)),
        ]));
      if (taken === false) break;
    }
    const grown = agent.residentKib() - before;
    console.log(`control client that never reads: ${sent}000 requests taken, ${grown} KiB more`);
    expect(grown).toBeLessThan(100_000);
    expect((await status(agent.socket)).pid).toBe(agent.pid);
    socket.destroy();
  });

  it('outlives many connections', async () => {
    const sockets = Array.from({ length: 500 }, () => connect(`${agent.socket}.control`).on('error', () => {}));
    await nextTurn();
    expect(hex(await ask(agent.socket, raw(99)))).toBe(FAILURE);
    for (const socket of sockets) socket.destroy();
    expect((await until('the control socket', () => status(agent.socket).catch(() => undefined))).pid).toBe(agent.pid);
  });
});

describe('requests on one connection', () => {
  it('are answered in order, also behind a slow signature', async () => {
    const client = await RawClient.connect(agent.socket);
    const sign = signMessage(blobOf(rsa), 'slow', 4);
    const fast = signMessage(blobOf(ed), 'fast');
    client.send(raw(...[LIST, sign, LIST, raw(99), sign, fast, LIST].map(frame)));
    const answers = await client.answers(7);
    client.close();
    expect(numbers(answers)).toEqual([12, 14, 12, 5, 14, 14, 12]);
    expect(isSignedByEd(answers[5], 'fast')).toBe(true);
    expect(answers[1]?.subarray(9, 21).toString()).toBe('rsa-sha2-512');
    const [n, e] = [rsa.key.fields.n, rsa.key.fields.e].map((bytes) => Buffer.from(bytes ?? []).toString('base64url'));
    const key = createPublicKey({ key: { kty: 'RSA', n: n as string, e: e as string }, format: 'jwk' });
    expect(verify('sha512', Buffer.from('slow'), key, (answers[1] as Buffer).subarray(25))).toBe(true);
  });

  it('may come in pieces, cut at every place', async () => {
    const other = freshEd25519();
    const requests = [LIST, addMessage(other, 'cut'), signMessage(blobOf(other), 'x'), raw(18, str(blobOf(other)))];
    const bytes = raw(...requests.map(frame));
    const expected = [12, 6, 14, 6];
    for (let cut = 1; cut < bytes.length; cut++) {
      const client = await RawClient.connect(agent.socket);
      client.send(bytes.subarray(0, cut));
      await nextTurn();
      client.send(bytes.subarray(cut));
      expect(numbers(await client.answers(4)), `cut at ${cut}`).toEqual(expected);
      client.close();
    }
  });

  it('may come one byte at a time', async () => {
    const other = freshEd25519();
    const client = await RawClient.connect(agent.socket);
    for (const byte of raw(...[addMessage(other, 'bytes'), LIST, raw(18, str(blobOf(other)))].map(frame))) {
      client.send(Uint8Array.of(byte));
      await nextTurn();
    }
    const [added, list, removed] = await client.answers(3);
    expect([hex(added), hex(removed)]).toEqual([SUCCESS, SUCCESS]);
    expect(commentsOf(list)).toEqual(['ed', 'rsa', 'bytes']);
    client.close();
  });

  it('may be 256 KiB long and no longer', async () => {
    const client = await RawClient.connect(agent.socket);
    const data = new Uint8Array(MAX_FRAME - 1 - 4 - blobOf(ed).length - 4 - 4);
    expect(signMessage(blobOf(ed), data).length).toBe(MAX_FRAME);
    expect((await client.ask(signMessage(blobOf(ed), data)))?.[0]).toBe(14);
    expect(hex(await client.ask(raw(99, new Uint8Array(MAX_FRAME - 1))))).toBe(FAILURE);
    expect(hex(await client.ask(raw(27, str('x'), new Uint8Array(MAX_FRAME - 6))))).toBe(FAILURE);
    client.send(raw(frame(LIST), u32(MAX_FRAME + 1), 11));
    expect((await client.answer())?.[0]).toBe(12);
    expect(await client.answer()).toBeUndefined();
    for (const length of [MAX_FRAME + 1, 0x7fffffff, 0x80000000, 0xffffffff, 0]) {
      const next = await RawClient.connect(agent.socket);
      next.send(raw(u32(length), 11));
      expect(await next.answer()).toBeUndefined();
    }
  });

  it('are answered to a client that says that it sends no more', async () => {
    for (const request of [LIST, signMessage(blobOf(ed), 'x'), signMessage(blobOf(rsa), 'x', 2), raw(99)]) {
      const client = await RawClient.connect(agent.socket);
      client.socket.end(raw(frame(request), frame(LIST)));
      const answers = await client.answers(3);
      expect(answers.length).toBe(2);
      expect(answers[1]?.[0]).toBe(12);
    }
    const half = await RawClient.connect(agent.socket);
    half.socket.end(raw(frame(LIST), u32(9), 11));
    expect(numbers(await half.answers(3))).toEqual([12]);
  });

  it('may break off anywhere', async () => {
    const bytes = raw(...[LIST, signMessage(blobOf(rsa), 'x'), addMessage(freshRsa(1024), 'gone'), LIST].map(frame));
    for (let i = 0; i < 300; i++) {
      const client = await RawClient.connect(agent.socket);
      client.send(bytes.subarray(0, (i * 7919) % bytes.length));
      if (i % 3 === 0) await nextTurn();
      client.close();
    }
    expect(isSignedByEd(await ask(agent.socket, signMessage(blobOf(ed), 'x')), 'x')).toBe(true);
    await until('the end of all', async () => (await status(agent.socket)).sessions === 0);
  });
});

describe('a question to a person', () => {
  let asking: AgentProcess;
  let waiting: string;
  let go: string;
  const key = freshEd25519();

  async function start(): Promise<void> {
    const folder = agent.folder;
    [waiting, go] = [join(folder, 'waiting'), join(folder, 'go')];
    const askpass = join(folder, 'askpass');
    writeFileSync(askpass, `#!/bin/sh\necho $$ >>${waiting}\nwhile ! [ -e ${go} ]; do sleep 0.05; done\n`, {
      mode: 0o755,
    });
    asking = await startAgentProcess({ env: { DISPLAY: ':9', SSH_ASKPASS: askpass } });
    expect(hex(await ask(asking.socket, addMessage(key, 'asked', Uint8Array.of(2))))).toBe(SUCCESS);
    expect(hex(await ask(asking.socket, addMessage(ed, 'ed')))).toBe(SUCCESS);
  }

  const askpassPids = (): readonly number[] =>
    existsSync(waiting) ? readFileSync(waiting, 'utf8').trim().split('\n').map(Number) : [];

  it('holds up its own connection alone, keeps the order, and ends with its client', async () => {
    await start();
    try {
      const client = await RawClient.connect(asking.socket);
      client.send(raw(...[LIST, signMessage(blobOf(key), 'x'), LIST, raw(99), LIST].map(frame)));
      expect((await client.answer())?.[0]).toBe(12);
      await until('the question', () => askpassPids().length === 1);
      // While it waits, others are served, and an impatient one hangs up: its question ends.
      expect(isSignedByEd(await ask(asking.socket, signMessage(blobOf(ed), 'y')), 'y')).toBe(true);
      const impatient = await RawClient.connect(asking.socket);
      impatient.send(frame(signMessage(blobOf(key), 'z')));
      await until('the second question', () => askpassPids().length === 2);
      expect((await status(asking.socket)).waitingQuestions).toBe(2);
      impatient.close();
      const second = askpassPids()[1] as number;
      await until('its end', () => !existsSync(`/proc/${second}/exe`));
      expect((await status(asking.socket)).waitingQuestions).toBe(1);
      writeFileSync(go, '');
      expect(numbers(await client.answers(4))).toEqual([14, 12, 5, 12]);
      client.close();
    } finally {
      await asking.stop();
    }
  });
});

describe('few descriptors', () => {
  it('cost clients, not the agent', async () => {
    const poor = await startAgentProcess({ wrapper: ['/bin/sh', '-c', 'ulimit -n 64; exec "$@"', 'sh'] });
    try {
      expect(hex(await ask(poor.socket, addMessage(ed, 'ed')))).toBe(SUCCESS);
      const clients = await Promise.all(Array.from({ length: 200 }, () => RawClient.connect(poor.socket)));
      for (const client of clients) client.send(frame(LIST));
      expect(commentsOf(await (clients[0] as RawClient).answer())).toEqual(['ed']);
      for (const client of clients) client.close();
      await until('the end of all', async () => (await status(poor.socket)).sessions === 0);
      expect(isSignedByEd(await ask(poor.socket, signMessage(blobOf(ed), 'x')), 'x')).toBe(true);
    } finally {
      await poor.stop();
    }
  });

  it('are used again: one connection after another is served, however many there were', async () => {
    const poor = await startAgentProcess({ wrapper: ['/bin/sh', '-c', 'ulimit -n 64; exec "$@"', 'sh'] });
    try {
      for (let i = 0; i < 200; i++) expect(hex(await ask(poor.socket, LIST)), `connection ${i}`).toBe('0c00000000');
    } finally {
      await poor.stop();
    }
  });
});
