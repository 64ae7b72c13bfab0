import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createControlServer, MAX_CONTROL_REQUEST_BYTES } from '../../../src/server/control.ts';

let folder: string;
let server: Server;
let asked = 0;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'latchkey-control-'));
  asked = 0;
  const commands = new Map<string, () => unknown>([
    ['count', () => ++asked],
    ['long', () => `${++asked}`.padEnd(10_000, '.')],
    [
      'broken',
      () => {
        throw new TypeError('secret');
      },
    ],
  ]);
  server = createControlServer(commands).listen(join(folder, 's'));
  await once(server, 'listening');
});

afterEach(() => {
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

function open(): Socket {
  return connect(join(folder, 's')).on('error', () => {});
}

/** All that comes back until the server closes, or `lines` lines. */
async function read(socket: Socket, lines = Number.POSITIVE_INFINITY): Promise<readonly Record<string, unknown>[]> {
  let text = '';
  for await (const chunk of socket) {
    text += chunk;
    if (text.split('\n').length > lines) break;
  }
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
}

it('answers a line that comes in pieces, and many that come at once, in order', async () => {
  const socket = open();
  for (const piece of [
    '{"vers',
    'ion":1,"comm',
    'and":"count"}',
    '\n{"version":1,"command":"count"}\n{"version":1,"command":"count"}\n',
  ]) {
    socket.write(piece);
    await new Promise((done) => setTimeout(done, 5));
  }
  expect((await read(socket, 3)).map(({ result }) => result)).toEqual([1, 2, 3]);
});

it('tells of a command that failed without its words, and goes on', async () => {
  const socket = open();
  socket.end('{"version":1,"command":"broken"}\n{"version":1,"command":"count"}\n');
  expect(await read(socket)).toEqual([
    { version: 1, ok: false, error: 'internal error TypeError' },
    { version: 1, ok: true, result: 1 },
  ]);
});

it('works for a client only as fast as it reads, and owes it no answer in the end', async () => {
  const REQUESTS = 600;
  const socket = open();
  socket.pause();
  socket.write('{"version":1,"command":"long"}\n'.repeat(REQUESTS));
  await new Promise((done) => setTimeout(done, 100));
  // 6 MB would wait otherwise; the system's own buffers hold some hundred kilobytes.
  expect(asked).toBeLessThan(REQUESTS / 3);
  expect((await read(socket, REQUESTS)).length).toBe(REQUESTS);
  expect(asked).toBe(REQUESTS);
});

it('closes on a line that is too long', async () => {
  const socket = open();
  socket.write('x'.repeat(MAX_CONTROL_REQUEST_BYTES + 1));
  expect(await read(socket)).toEqual([]);
});
