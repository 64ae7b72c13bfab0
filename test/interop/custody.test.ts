/**
 * Key custody of the running agent, looked at from outside as root: keys of every type go in over its socket in many
 * ways, and no byte of their private values may then be found in its memory. What libcrypto makes of a key while it is in
 * use is the one exception (softsigner.ts), so every look comes when that time is over.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { KEEP_MADE_MS } from '../../src/keys/softsigner.ts';
import {
  type AgentProcess,
  cleanEnv,
  FAILURE,
  frame,
  LIST,
  program,
  RawClient,
  REMOVE_ALL,
  SUCCESS,
  startAgentProcess,
  until,
} from '../support/agentprocess.ts';
import { status } from '../support/control.ts';
import { type Needle, type Scan, scanMemory } from '../support/memscan.ts';
import { raw } from '../unit/wire/build.ts';
import {
  addMessage,
  certified,
  lifetime,
  lockMessage,
  needlesOf,
  nonceNeedles,
  phraseNeedles,
  removeMessage,
  signMessage,
  type TestKey,
  testKeys,
  unlockMessage,
  writeKeyFile,
} from './custody-keys.ts';

const possible = process.platform === 'linux' && process.getuid?.() === 0;
if (!possible) console.warn('custody: not looked at, since only root on Linux may read the memory of the agent');

const folder = mkdtempSync(join(tmpdir(), 'latchkey-custody-'));
const PHRASE = `pass phrase ${Math.random()} of the custody test`;
const SEED = Date.now() & 0xffff;
const agents: AgentProcess[] = [];
const children: ChildProcess[] = [];
let keys: TestKey[] = [];
let certificates: TestKey[] = [];
let needles: Needle[] = [];

/** Numbers below `below`, in an order that SEED tells. */
let state = SEED;
function random(below: number): number {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return (state >>> 8) % below;
}

const pause = (milliseconds: number): Promise<void> => new Promise((done) => setTimeout(done, milliseconds));

/** Until libcrypto's key is freed after its last use. */
const rest = (): Promise<void> => pause(2 * KEEP_MADE_MS + 300);

const SIGNATURE = 14;
const KEYS = 12;
const EXTENSION_FAILURE = '1c';

async function start(): Promise<AgentProcess> {
  // With -d for -D: then it says the most, and what it says is looked through at the end.
  const wrapper = ['/bin/sh', '-c', 'agent=$1; shift 2; exec "$agent" -d "$@"', 'sh'];
  const agent = await startAgentProcess({ wrapper });
  agents.push(agent);
  return agent;
}

const scan = ({ pid }: AgentProcess, looked: readonly Needle[] = needles): Scan => scanMemory(pid, looked);

/** What is found, in short: for a failure's message. */
function found(agent: AgentProcess, looked?: readonly Needle[]): string[] {
  return scan(agent, looked).found.map(({ name, mapping }) => `${name} in ${mapping}`);
}

const answered = async (client: RawClient, message: Uint8Array): Promise<string | undefined> =>
  (await client.ask(message))?.toString('hex');

/** The numbers of the next `count` answers. */
const numbers = async (client: RawClient, count: number): Promise<(number | undefined)[]> =>
  (await client.answers(count)).map((answer) => answer[0]);

async function addAll(client: RawClient, added: readonly TestKey[], constraints?: Uint8Array): Promise<void> {
  for (const key of added) expect(await answered(client, addMessage(key, constraints)), key.type).toBe(SUCCESS);
}

/** @returns what must not be found besides: the number that each signature used once */
async function signAll(client: RawClient, times: number, signing: readonly TestKey[] = keys): Promise<Needle[]> {
  const nonces: Needle[] = [];
  for (let i = 0; i < times; i++) {
    for (const key of signing) {
      const data = `data ${random(1_000_000)}`;
      const answer = await client.ask(signMessage(key, data, 2 * (i % 3)));
      expect(answer?.[0], key.type).toBe(SIGNATURE);
      nonces.push(...nonceNeedles(key, data, answer ?? raw()));
    }
  }
  return nonces;
}

/** Writes `bytes` in pieces that end anywhere. */
async function writeSplit(client: RawClient, bytes: Uint8Array, pieces: number): Promise<void> {
  const cuts = Array.from({ length: pieces - 1 }, () => random(bytes.length)).sort((a, b) => a - b);
  let at = 0;
  for (const cut of [...cuts, bytes.length]) {
    client.send(bytes.subarray(at, cut));
    at = cut;
    await pause(2);
  }
}

/** `key` with another private half, of which all but a few bytes are the right one's. */
function mismatched(key: TestKey): TestKey {
  const name = key.fresh.key.fields.sk === undefined ? 'd' : 'sk';
  const value = Uint8Array.from(key.fresh.key.fields[name] as Uint8Array);
  value[20] = (value[20] as number) ^ 4;
  const fields = { ...key.fresh.key.fields, [name]: value };
  return { ...key, fresh: { ...key.fresh, key: { ...key.fresh.key, fields } } };
}

/** Keeps every line of its standard input that is hexadecimal as bytes, in both orders. */
const PLANTED = `
  let text = '';
  process.stdin.on('data', (chunk) => { text += chunk; }).on('end', () => {
    globalThis.kept = text.split('\\n').flatMap((line) => {
      const value = Buffer.from(line, 'hex');
      return [value, Buffer.from(value).reverse()];
    });
    console.log('planted');
    setInterval(() => globalThis.kept.length, 1000);
  });
`;

describe.runIf(possible)('the memory of the running agent', () => {
  beforeAll(() => {
    keys = testKeys([2048, 3072, 4096]);
    certificates = keys.map((key) => certified(key, folder)).filter((key) => key !== undefined);
    needles = keys.flatMap(needlesOf);
  });

  afterEach(async () => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
    for (const agent of agents.splice(0)) {
      await agent.stop();
      const said = Buffer.from(agent.stderr());
      expect(
        needles.filter(({ bytes }) => said.includes(Buffer.from(bytes))).map(({ name }) => `${name} in the log`),
      ).toEqual([]);
    }
  });

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('is searched by a scanner that finds what is there', async () => {
    const child = spawn(process.execPath, ['-e', PLANTED], { stdio: ['pipe', 'pipe', 'inherit'] });
    children.push(child);
    child.stdin.end(needles.map(({ bytes }) => Buffer.from(bytes).toString('hex')).join('\n'));
    await once(child.stdout, 'data');
    const there = new Set(scanMemory(child.pid as number, needles).found.map(({ name }) => name));
    expect(needles.filter(({ name }) => !there.has(name))).toEqual([]);
    expect(scanMemory(child.pid as number, testKeys([]).flatMap(needlesOf)).found).toEqual([]);
  });

  it('shows comments and public keys but has custody in pages that even root may not read', async () => {
    const agent = await start();
    await addAll(await RawClient.connect(agent.socket), keys);
    const open = keys.flatMap(({ comment, blob }) => [
      { name: comment, bytes: Buffer.from(comment) },
      { name: `blob of ${comment}`, bytes: blob.subarray(-40) },
    ]);
    const { found: shown, refused } = scan(agent, open);
    const there = new Set(shown.map(({ name }) => name));
    expect(open.filter(({ name }) => !there.has(name))).toEqual([]);
    const secret = readFileSync(`/proc/${agent.pid}/maps`, 'utf8')
      .split('\n')
      .filter((line) => line.includes('/secretmem'));
    expect(secret.length).toBeGreaterThanOrEqual(2);
    expect(refused).toEqual(expect.arrayContaining(secret));
    expect(await status(agent.socket)).toMatchObject({
      keys: keys.length,
      custody: { pages: 'memfd_secret', sealed: false },
    });
  });

  it('holds no private value after adding in one write, split, pipelined and behind a big frame', async () => {
    const agent = await start();
    const client = await RawClient.connect(agent.socket);
    await addAll(client, [...keys, ...certificates]);
    for (const key of [...keys, ...certificates]) {
      await writeSplit(client, frame(addMessage(key)), 6);
      expect(await numbers(client, 1), `${key.type} split, seed ${SEED}`).toEqual([6]);
    }
    // Behind requests that take a while, in one write and in pieces: what waits is kept aside by the connection.
    const slow = keys.filter(({ type }) => type === 'ssh-rsa').at(-1) as TestKey;
    for (const pieces of [1, 12]) {
      const requests = keys.flatMap((key) => [signMessage(slow, 'slow', 4), LIST, addMessage(key)]);
      await writeSplit(client, raw(...requests.map(frame)), pieces);
      const expected = keys.flatMap(() => [SIGNATURE, KEYS, 6]);
      expect(await numbers(client, requests.length), `seed ${SEED}`).toEqual(expected);
    }
    // The first half of a frame that holds no secret is kept in the heap; what follows in the same write must not be.
    for (const key of keys) {
      const big = frame(signMessage(slow, 'x'.repeat(200_000), 4));
      for (const piece of [big.subarray(0, 3), big.subarray(3, 100_000)]) {
        client.send(piece);
        await pause(5);
      }
      client.send(raw(big.subarray(100_000), frame(addMessage(key))));
      expect(await numbers(client, 2)).toEqual([SIGNATURE, 6]);
    }
    await rest();
    expect(found(agent)).toEqual([]);
  });

  it('holds no private value while a message that carries one is half there, nor after its sender hung up', async () => {
    const agent = await start();
    const halves: RawClient[] = [];
    for (const key of [...keys, ...certificates]) {
      const message = frame(addMessage(key));
      for (const length of [message.length - 1, message.length - 1 - random(200)]) {
        const client = await RawClient.connect(agent.socket);
        halves.push(client);
        await writeSplit(client, message.subarray(0, length), 1 + random(3));
      }
    }
    await pause(100);
    expect(found(agent), `half sent, seed ${SEED}`).toEqual([]);
    // One half of them ends properly, the other is just gone.
    for (const [i, client] of halves.entries()) {
      if (i % 2 === 0) client.socket.end();
      else client.close();
    }
    await until('the end of all', async () => (await status(agent.socket)).sessions === 0);
    expect(await status(agent.socket)).toMatchObject({ keys: 0, custody: { usedBytes: 0 } });
    expect(found(agent), 'hung up').toEqual([]);
  });

  it('holds no private value after our ssh-add has added key files', async () => {
    const agent = await start();
    for (const [i, key] of keys.entries()) {
      const path = join(folder, `file${i}`);
      writeKeyFile(key, path);
      const env = cleanEnv(folder, { SSH_AUTH_SOCK: agent.socket });
      const { status: code, stderr } = spawnSync(program('ssh-add'), ['-q', path], { encoding: 'utf8', env });
      expect(code, `${key.type}: ${stderr}`).toBe(0);
    }
    expect(await status(agent.socket)).toMatchObject({ keys: keys.length });
    expect(found(agent)).toEqual([]);
  });

  it('holds no private value after signing, while locked, after a wrong and a right unlock, and after removal', async () => {
    const agent = await start();
    const client = await RawClient.connect(agent.socket);
    const looked = [...needles, ...phraseNeedles(PHRASE)];
    await addAll(client, [...keys, ...certificates]);
    looked.push(...(await signAll(client, 6)));
    expect(looked.filter(({ name }) => name.includes('inverse')).length).toBeGreaterThan(6);
    await rest();
    expect(found(agent, looked), 'signed').toEqual([]);

    // Locked in the middle of slow signatures: libcrypto's keys outlive the lock by no more than those.
    const other = await RawClient.connect(agent.socket);
    for (const key of keys) other.send(frame(signMessage(key, 'under way', 4)));
    expect(await answered(client, lockMessage(PHRASE))).toBe(SUCCESS);
    await other.answers(keys.length);
    expect(await status(agent.socket)).toMatchObject({ locked: true, custody: { sealed: true } });
    expect(found(agent, looked), 'locked').toEqual([]);

    expect(await answered(client, unlockMessage(`${PHRASE}.`))).toBe(FAILURE);
    expect(found(agent, looked), 'wrong pass phrase').toEqual([]);
    expect(await answered(client, unlockMessage(PHRASE))).toBe(SUCCESS);
    expect(found(agent, looked), 'unlocked').toEqual([]);

    looked.push(...(await signAll(client, 1)));
    for (const key of [...keys, ...certificates]) expect(await answered(client, removeMessage(key))).toBe(SUCCESS);
    expect(await status(agent.socket)).toMatchObject({ keys: 0, custody: { usedBytes: 0 } });
    expect(found(agent, looked), 'removed right after signing').toEqual([]);
  });

  it('holds no private value after a key of any one type was used alone, and nothing came to overwrite its traces', async () => {
    const agent = await start();
    const client = await RawClient.connect(agent.socket);
    for (const key of keys) {
      await addAll(client, [key]);
      const nonces = await signAll(client, 5, [key]);
      expect(await answered(client, removeMessage(key))).toBe(SUCCESS);
      expect(found(agent, [...needlesOf(key), ...nonces]), key.type).toEqual([]);
    }
  });

  it('holds no private value after keys expired or were removed all at once while they signed', async () => {
    const agent = await start();
    const client = await RawClient.connect(agent.socket);
    await addAll(client, keys, lifetime(2));
    await signAll(client, 1);
    await until('the end of all lifetimes', async () => (await status(agent.socket)).keys === 0);
    expect(await status(agent.socket)).toMatchObject({ custody: { usedBytes: 0 } });
    expect(found(agent), 'expired').toEqual([]);

    await addAll(client, keys);
    const other = await RawClient.connect(agent.socket);
    for (const key of keys) other.send(frame(signMessage(key, 'under way', 4)));
    await pause(5);
    expect(await answered(client, REMOVE_ALL)).toBe(SUCCESS);
    await other.answers(keys.length);
    expect(await status(agent.socket)).toMatchObject({ keys: 0, custody: { usedBytes: 0 } });
    expect(found(agent), 'removed all').toEqual([]);
  });

  it('holds no private value of a key that it refused', async () => {
    const agent = await start();
    const client = await RawClient.connect(agent.socket);
    for (const key of [...keys, ...certificates]) {
      const message = addMessage(key);
      const refused = {
        'another private half': addMessage(mismatched(key)),
        'an unknown constraint': addMessage(key, raw(99, 0, 0, 0, 1, 0)),
        'half a constraint': addMessage(key, raw(1, 0)),
        'no comment': message.subarray(0, message.length - key.comment.length - 4),
        'a private part cut off': message.subarray(0, message.length - key.comment.length - 9),
        'bytes after the end': raw(message, 'left over'),
        'the number of SSH 1': raw(7, message.subarray(1)),
        'a number that nobody has': raw(200, message),
        'an extension that is not served': raw(27, 0, 0, 0, 7, 'add-key', message),
      };
      for (const [what, request] of Object.entries(refused))
        expect([FAILURE, EXTENSION_FAILURE], `${key.type}, ${what}`).toContain(await answered(client, request));
    }
    expect(await status(agent.socket)).toMatchObject({ keys: 0, custody: { usedBytes: 0 } });
    expect(found(agent)).toEqual([]);
  });

  it('holds no private value after thousands of signatures on many connections while the heap is collected', async () => {
    const agent = await start();
    const clients = await Promise.all(Array.from({ length: 6 }, () => RawClient.connect(agent.socket)));
    const all = [...keys, ...certificates];
    await addAll(clients[0] as RawClient, all);
    const quick = all.filter(({ type }) => /ed25519$|nistp256/.test(type));
    await Promise.all(
      clients.map(async (client, n) => {
        for (let round = 0; round < 40; round++) {
          // Long data and lists of keys are what makes garbage here.
          const requests = quick.flatMap((key) =>
            [1, 2, 3].flatMap((i) => [signMessage(key, `${i} of ${n}`.repeat(500)), LIST]),
          );
          if (round % 8 === n) requests.push(...keys.map((key) => signMessage(key, `${round}`, 2)));
          // A key that is replaced again and again, as AddKeysToAgent does.
          requests.push(addMessage(keys[(n + round) % keys.length] as TestKey));
          client.send(raw(...requests.map(frame)));
          for (const number of await numbers(client, requests.length)) expect([SIGNATURE, KEYS, 6]).toContain(number);
        }
      }),
    );
    await rest();
    expect(found(agent)).toEqual([]);
  });
});
