import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Handle, Stream } from '../../../src/server/stream.ts';
import { until } from '../../../src/testing/harness.ts';

const BUFFER_BYTES = 4096;

let folder: string;
let server: Server;
let client: Socket;
let handle: Handle;
let accepted = false;

beforeEach(async () => {
  accepted = false;
  folder = mkdtempSync(join(tmpdir(), 'latchkey-stream-'));
  // As the agent's server does where Node's listener can't be asked.
  server = createServer({ pauseOnCreate: true } as object, (socket) => {
    const node = socket as unknown as { _handle: Handle | null };
    handle = node._handle as Handle;
    accepted = true;
    node._handle = null;
    socket.destroy();
  }).listen(join(folder, 's'));
  await once(server, 'listening');
  client = connect({ path: join(folder, 's'), allowHalfOpen: true });
  await once(client, 'connect');
  await until(() => accepted, 'the server has accepted');
});

afterEach(() => {
  client.destroy();
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

/** What a user of a stream is told, in order. */
const MARK = 64 * 1024;

class Told {
  readonly buffer = new Uint8Array(BUFFER_BYTES);
  readonly events: string[] = [];
  wanting = true;
  readonly stream = new Stream(handle, this.buffer, {
    read: (chunk) => {
      this.events.push(`read ${Buffer.from(chunk).toString()}`);
      return this.wanting;
    },
    end: () => this.events.push('end'),
    drained: () => this.events.push('drained'),
    gone: () => this.events.push('gone'),
  });
}

/** A handle of another Node: it does not tell how many bytes it has read. */
const otherNode = (): unknown => Object.defineProperty(handle, 'bytesRead', { value: undefined });

describe.each([
  ["Node's handle", (): unknown => undefined],
  ['a socket, where the handle is not as expected', otherNode],
])('a stream on %s', (_, prepare) => {
  it('tells of what comes and of the end, and wipes what was read', async () => {
    prepare();
    const told = new Told();
    told.stream.resume();
    client.write('one');
    await until(() => told.events.length === 1, 'a read');
    client.end('two');
    await until(() => told.events.length === 3, 'the end');
    expect(told.events).toEqual(['read one', 'read two', 'end']);
    expect(told.buffer.every((byte) => byte === 0)).toBe(true);
    told.stream.close();
  });

  it('reads nothing before it is wanted, and no more when it is not', async () => {
    prepare();
    const told = new Told();
    client.write('one');
    await new Promise((done) => setTimeout(done, 30));
    expect(told.events).toEqual([]);
    told.wanting = false;
    told.stream.resume();
    await until(() => told.events.length === 1, 'a read');
    client.write('two');
    await new Promise((done) => setTimeout(done, 30));
    expect(told.events).toEqual(['read one']);
    told.wanting = true;
    told.stream.resume();
    await until(() => told.events.length === 2, 'another');
    expect(told.events[1]).toBe('read two');
    told.stream.close();
  });

  it('keeps what a client does not take, and sends all of it in order before it closes', async () => {
    prepare();
    const told = new Told();
    told.stream.resume();
    client.pause();
    const piece = new Uint8Array(100_000);
    let written = 0;
    // Node tells of the end of what waited only where that was more than its own mark: 64 KiB since Node 22.
    while (told.stream.unsent < 2 * MARK && written < 100) told.stream.write(piece.fill(++written), piece.length);
    // What was given may change at once.
    told.stream.write(piece.fill(++written), 10);
    piece.fill(0);
    expect(told.stream.unsent).toBeGreaterThan(MARK);
    const got: Buffer[] = [];
    client.on('data', (chunk: Buffer) => got.push(chunk));
    client.resume();
    await until(() => told.events.includes('drained'), 'all is sent');
    expect(told.stream.unsent).toBe(0);
    told.stream.finish();
    await once(client, 'end');
    const all = Buffer.concat(got);
    expect(all.length).toBe((written - 1) * piece.length + 10);
    for (let i = 1; i < written; i++) {
      const part = all.subarray((i - 1) * piece.length, i * piece.length);
      expect(part.every((byte) => byte === i)).toBe(true);
    }
    expect([...all.subarray(-10)]).toEqual(new Array(10).fill(written));
  });

  it('reads on while what it wrote waits', async () => {
    prepare();
    const told = new Told();
    told.stream.resume();
    client.pause();
    const piece = new Uint8Array(1_000_000);
    for (let i = 0; told.stream.unsent === 0 && i < 100; i++) told.stream.write(piece, piece.length);
    client.write('still here');
    await until(() => told.events.length === 1, 'a read');
    expect(told.events).toEqual(['read still here']);
    told.stream.close();
  });

  it('is gone once when it is closed, and when the client is', async () => {
    prepare();
    const told = new Told();
    told.stream.resume();
    client.destroy();
    await until(() => told.events.length > 0, 'the end');
    for (let i = 0; i < 3; i++) told.stream.write(new Uint8Array(10), 10);
    told.stream.close();
    told.stream.close();
    await new Promise((done) => setTimeout(done, 30));
    expect(told.events.filter((event) => event === 'gone').length).toBeGreaterThanOrEqual(1);
    expect(told.events[0]).toBe('end');
    expect(told.stream.isOpen).toBe(false);
  });
});
