import { spawnSync } from 'node:child_process';
import { generateKeyPairSync, type KeyObject, verify } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentError, createAgentClient } from '../../../src/client/client.ts';
import { connectAgent } from '../../../src/client/connect.ts';
import type { AddedKey } from '../../../src/wire/requests.ts';

const folder = mkdtempSync(join(tmpdir(), 'latchkey-client-'));
const agentSocket = join(folder, 'agent');
let agentPid = 0;

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function string(bytes: Uint8Array | string): Buffer {
  return Buffer.concat([u32(Buffer.from(bytes).length), Buffer.from(bytes)]);
}

function frame(...parts: readonly (Uint8Array | number[])[]): Buffer {
  return string(Buffer.concat(parts.map((part) => Buffer.from(part))));
}

/** An Ed25519 key as a request to add it wants it, and what checks its signatures. */
function ed25519(): { added: AddedKey; blob: Uint8Array; publicKey: KeyObject } {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const pk = publicKey.export({ type: 'spki', format: 'der' }).subarray(-32);
  const seed = privateKey.export({ type: 'pkcs8', format: 'der' }).subarray(-32);
  const added = { type: 'ssh-ed25519', fields: { pk, sk: Buffer.concat([seed, pk]) } };
  return { added, blob: Buffer.concat([string('ssh-ed25519'), string(pk)]), publicKey };
}

/** A stream whose other end is the test: what was written, one entry a write, and `answer`. */
function wire(): { stream: Duplex; written: Buffer[]; answer: (bytes: Uint8Array | null) => void } {
  const written: Buffer[] = [];
  const stream = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      written.push(Buffer.from(chunk));
      done();
    },
  });
  return { stream, written, answer: (bytes) => stream.push(bytes) };
}

async function errorOf(promise: Promise<unknown>): Promise<AgentError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(AgentError);
  return error as AgentError;
}

const SUCCESS = frame([6]);
const FAILURE = frame([5]);

beforeAll(() => {
  const { stdout } = spawnSync('/usr/bin/ssh-agent', ['-s', '-a', agentSocket], { encoding: 'utf8' });
  agentPid = Number(/SSH_AGENT_PID=(\d+)/.exec(stdout)?.[1]);
  expect(agentPid).toBeGreaterThan(1);
});

afterAll(() => {
  if (agentPid > 1) process.kill(agentPid);
  rmSync(folder, { recursive: true, force: true });
});

describe("with OpenSSH's agent", () => {
  it('adds, lists, signs with and removes a key', async () => {
    const client = await connectAgent(agentSocket);
    const { added, blob, publicKey } = ed25519();
    await client.add(added, 'a comment');
    const held = await client.list();
    expect(held.map(({ comment }) => comment)).toEqual(['a comment']);
    expect(Buffer.from(held[0]?.blob ?? [])).toEqual(Buffer.from(blob));
    const signature = await client.sign(blob, Buffer.from('data'));
    expect(Buffer.from(signature.subarray(0, 19))).toEqual(Buffer.concat([string('ssh-ed25519'), u32(64)]));
    expect(verify(null, Buffer.from('data'), publicKey, signature.subarray(19))).toBe(true);
    await client.remove(blob);
    expect(await client.list()).toEqual([]);
    expect((await errorOf(client.remove(blob))).code).toBe('refused');
    client.close();
  });

  it('gets the answers to many requests at once, each its own', async () => {
    const client = await connectAgent(agentSocket);
    const keys = Array.from({ length: 8 }, ed25519);
    await Promise.all(keys.map(({ added }, i) => client.add(added, `key ${i}`)));
    const signatures = await Promise.all(keys.map(({ blob }, i) => client.sign(blob, Buffer.from(`data ${i}`))));
    signatures.forEach((signature, i) => {
      const { publicKey } = keys[i] as (typeof keys)[number];
      expect(verify(null, Buffer.from(`data ${i}`), publicKey, signature.subarray(19))).toBe(true);
    });
    await client.removeAll();
    await client.removeAll(1);
    expect(await client.list()).toEqual([]);
    client.close();
  });

  it('reads the list of an agent with 1000 keys', async () => {
    const client = await connectAgent(agentSocket);
    await Promise.all(Array.from({ length: 1000 }, (_, i) => client.add(ed25519().added, `key ${i}`)));
    expect((await client.list()).length).toBe(1000);
    await client.removeAll();
    client.close();
  });

  it('locks and unlocks, and tells a refusal', async () => {
    const client = await connectAgent(agentSocket);
    await client.lock(Buffer.from('secret'));
    expect((await errorOf(client.lock(Buffer.from('secret')))).code).toBe('refused');
    expect((await errorOf(client.unlock(Buffer.from('wrong')))).code).toBe('refused');
    await client.unlock(Buffer.from('secret'));
    expect((await errorOf(client.query())).code).toBe('refused');
    client.close();
  });

  it('refuses a request that no agent would read, and goes on', async () => {
    const client = await connectAgent(agentSocket);
    expect((await errorOf(client.sign(new Uint8Array(8), new Uint8Array(256 * 1024)))).code).toBe('too-large');
    expect(await client.list()).toEqual([]);
    client.close();
  });
});

describe('what is written', () => {
  it('is one write a request, with the bytes of RFC 9987', async () => {
    const { stream, written, answer } = wire();
    const client = createAgentClient(stream);
    const done = [
      client.lock(Buffer.from('pw')),
      client.remove(Buffer.from('blob')),
      client.removeAll(),
      client.removeAll(1),
      client.addToken('/lib.so', Buffer.from('pin'), { lifetime: 90, confirm: true }),
      client.removeToken('/lib.so', new Uint8Array()),
    ];
    for (const _ of done) answer(SUCCESS);
    await Promise.all(done);
    expect(written).toEqual([
      frame([22], string('pw')),
      frame([18], string('blob')),
      frame([19]),
      frame([9]),
      frame([26], string('/lib.so'), string('pin'), [1], u32(90), [2]),
      frame([21], string('/lib.so'), string('')),
    ]);
  });

  it('is wiped once it is sent', async () => {
    let kept: Buffer | undefined;
    const stream = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        kept = chunk;
        expect(chunk.includes('a secret')).toBe(true);
        done();
      },
    });
    const client = createAgentClient(stream);
    const unlocked = client.unlock(Buffer.from('a secret'));
    stream.push(SUCCESS);
    await unlocked;
    expect(kept?.every((byte) => byte === 0)).toBe(true);
  });
});

describe('what is read', () => {
  it('may come in pieces of any size', async () => {
    const list = frame([12], u32(1), string('blob'), string('comment'));
    for (const size of [1, 2, 3, 5, 7, 64]) {
      const { stream, answer } = wire();
      const client = createAgentClient(stream);
      const answers = [client.list(), client.removeAll(), client.list()];
      const all = Buffer.concat([list, SUCCESS, list]);
      for (let at = 0; at < all.length; at += size) answer(all.subarray(at, at + size));
      const [first, , last] = await Promise.all(answers);
      expect(first).toEqual(last);
      expect(first?.[0]?.comment).toBe('comment');
    }
  });

  it('rejects what waits when the agent hangs up, also in the middle of an answer', async () => {
    for (const part of [Buffer.alloc(0), SUCCESS.subarray(0, 2), frame([12], u32(7)).subarray(0, 7)]) {
      const { stream, answer } = wire();
      const client = createAgentClient(stream);
      const waiting = [errorOf(client.list()), errorOf(client.removeAll())];
      if (part.length > 0) answer(part);
      answer(null);
      for (const error of await Promise.all(waiting)) expect(error.code).toBe('communication');
      expect((await errorOf(client.list())).code).toBe('communication');
    }
  });

  it('rejects an answer above 16 MiB without waiting for it', async () => {
    const { stream, answer } = wire();
    const client = createAgentClient(stream);
    const waiting = errorOf(client.list());
    answer(u32(16 * 1024 * 1024 + 1));
    expect((await waiting).code).toBe('too-large');
    expect(stream.destroyed).toBe(true);
  });

  it('rejects garbage, an answer to another question and an empty one, and stays in step', async () => {
    for (const bad of [frame([99]), frame([12], u32(9)), frame([14], string('signature')), frame([]), frame([6, 6])]) {
      const { stream, answer } = wire();
      const client = createAgentClient(stream);
      const waiting = errorOf(client.removeAll());
      answer(bad);
      expect((await waiting).code).toBe('bad-reply');
      const next = client.removeAll();
      answer(SUCCESS);
      await next;
    }
  });

  it('ends the connection at an answer that nobody asked for', async () => {
    const { stream, answer } = wire();
    const client = createAgentClient(stream);
    const first = client.removeAll();
    answer(Buffer.concat([SUCCESS, SUCCESS]));
    await first;
    expect((await errorOf(client.list())).code).toBe('bad-reply');
  });

  it('tells a failed extension from a refused one', async () => {
    const { stream, answer } = wire();
    const client = createAgentClient(stream);
    const failed = errorOf(client.extension('x@example.com'));
    const refused = errorOf(client.extension('x@example.com'));
    answer(Buffer.concat([frame([28]), FAILURE]));
    expect((await failed).code).toBe('extension-failure');
    expect((await refused).code).toBe('refused');
  });

  it('gives the names of a query and the body of an extension', async () => {
    const { stream, answer } = wire();
    const client = createAgentClient(stream);
    const names = client.query();
    answer(frame([29], string('query'), string('session-bind@openssh.com'), string('other@example.com')));
    expect(await names).toEqual(['session-bind@openssh.com', 'other@example.com']);
    const body = client.extension('x@example.com', Buffer.from('body'));
    answer(frame([29], string('x@example.com'), Buffer.from('answer')));
    expect(Buffer.from(await body).toString()).toBe('answer');
    const plain = client.extension('x@example.com');
    answer(SUCCESS);
    expect((await plain).length).toBe(0);
    const other = errorOf(client.extension('x@example.com'));
    answer(frame([29], string('y@example.com')));
    expect((await other).code).toBe('bad-reply');
  });

  it('rejects what waits when it is closed', async () => {
    const { stream } = wire();
    const client = createAgentClient(stream);
    const waiting = errorOf(client.list());
    client.close();
    expect((await waiting).code).toBe('communication');
    expect(stream.destroyed).toBe(true);
  });
});

describe('connecting', () => {
  it('needs a socket to be named', async () => {
    for (const path of ['', 'none']) {
      const error = await errorOf(connectAgent(path));
      expect(error.code).toBe('no-agent');
      expect(error.cause).toBeUndefined();
    }
  });

  it('tells why there is no agent behind a path', async () => {
    const error = await errorOf(connectAgent(join(folder, 'missing')));
    expect(error.code).toBe('no-agent');
    expect((error.cause as NodeJS.ErrnoException).code).toBe('ENOENT');
    expect((await errorOf(connectAgent(join(folder, 'x'.repeat(200))))).code).toBe('no-agent');
    expect((await errorOf(connectAgent('a\0b'))).code).toBe('no-agent');
  });

  it('can be given up, before and after', async () => {
    const reason = new Error('no longer wanted');
    await expect(connectAgent(agentSocket, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const connecting = connectAgent(agentSocket, { signal: controller.signal });
    controller.abort(reason);
    await expect(connecting).rejects.toBe(reason);
    const later = new AbortController();
    const client = await connectAgent(agentSocket, { signal: later.signal });
    later.abort(reason);
    expect((await errorOf(client.list())).code).toBe('communication');
  });

  it('rejects what waits when an agent closes without a word', async () => {
    const path = join(folder, 'mute');
    const server: Server = createServer((socket: Socket) => socket.once('data', () => socket.destroy()));
    await new Promise<void>((resolve) => server.listen(path, resolve));
    expect(server.address() as AddressInfo | string).toBe(path);
    const client = await connectAgent(path);
    expect((await errorOf(client.list())).code).toBe('communication');
    server.close();
  });
});
