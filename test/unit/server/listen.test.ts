import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import {
  cleanStaleSockets,
  controlSocketPath,
  isAlive,
  ListenError,
  listenOn,
  listenOnDescriptor,
  privateSocketPath,
  temporarySocketPath,
} from '../../../src/server/listen.ts';

let folder: string;
const servers: Server[] = [];
const server = (): Server => {
  const made = createServer((socket) => socket.on('error', () => {}).end('hello'));
  servers.push(made);
  return made;
};

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'latchkey-listen-'));
});

afterEach(() => {
  for (const one of servers.splice(0)) one.close();
  rmSync(folder, { recursive: true, force: true });
});

it('makes sockets that their owner alone may use, and leaves the umask as it was', async () => {
  const before = process.umask();
  await listenOn(server(), join(folder, 's'));
  expect(statSync(join(folder, 's')).mode & 0o777).toBe(0o600);
  expect(process.umask()).toBe(before);
});

it('takes the place of a dead socket alone', async () => {
  const path = join(folder, 's');
  await listenOn(server(), path);
  await expect(listenOn(server(), path)).rejects.toMatchObject({ code: 'EADDRINUSE' });
  expect(await isAlive(path)).toBe(true);
  const file = join(folder, 'file');
  writeFileSync(file, 'content');
  await expect(listenOn(server(), file)).rejects.toMatchObject({ code: 'EADDRINUSE' });
  expect(readFileSync(file, 'utf8')).toBe('content');
});

it('tells a folder that is missing from one that is closed', async () => {
  await expect(listenOn(server(), join(folder, 'no', 's'))).rejects.toMatchObject({ code: 'ENOENT' });
  await expect(listenOn(server(), '')).rejects.toThrow(ListenError);
  await expect(listenOn(server(), join(folder, 'x'.repeat(200)))).rejects.toThrow(/too long for Unix domain socket/);
});

it('refuses a descriptor that does not listen', async () => {
  await expect(listenOnDescriptor(server(), 0x7fff)).rejects.toThrow(ListenError);
});

it('names sockets so that no two are the same, in private folders', () => {
  const names = new Set(Array.from({ length: 50 }, () => privateSocketPath(folder)));
  expect(names.size).toBe(50);
  expect(statSync(join(folder, '.ssh/agent')).mode & 0o777).toBe(0o700);
  const temporary = temporarySocketPath(folder, 77);
  expect(temporary.endsWith('/agent.77')).toBe(true);
  expect(statSync(join(temporary, '..')).mode & 0o777).toBe(0o700);
  expect(() => temporarySocketPath(join(folder, 'no'), 77)).toThrow(ListenError);
  mkdirSync(join(folder, 'home'));
  writeFileSync(join(folder, 'home/.ssh'), '');
  expect(() => privateSocketPath(join(folder, 'home'))).toThrow(ListenError);
});

it('puts the control socket beside the agent socket', () => {
  expect(controlSocketPath('/run/latchkey/agent.sock')).toBe('/run/latchkey/control.sock');
  expect(controlSocketPath('/tmp/ssh-x/agent.7')).toBe('/tmp/ssh-x/agent.7.control');
});

it('cleans no living socket, no young one and nothing that is no socket', async () => {
  const living = privateSocketPath(folder);
  await listenOn(server(), living);
  const file = privateSocketPath(folder);
  writeFileSync(file, '');
  const old = Date.now() / 1000 - 100_000;
  for (const path of [living, file]) utimesSync(path, old, old);
  await cleanStaleSockets(folder, true);
  expect([living, file].map((path) => existsSync(path))).toEqual([true, true]);
  const [greeting] = await once(connect(living), 'data');
  expect(String(greeting)).toBe('hello');
  await cleanStaleSockets(join(folder, 'nowhere'), true);
});
