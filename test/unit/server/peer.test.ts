import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { MAX_ANCESTORS, peerOf } from '../../../src/server/peer.ts';

let folder: string;
let server: Server;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'latchkey-peer-'));
  server = createServer().listen(join(folder, 's'));
  await once(server, 'listening');
});

afterEach(() => {
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

const CLIENT = `import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); sys.stdin.read()`;

/** A program that connects, started through so many shells, one within the other. */
async function client(shells: number): Promise<{ child: ChildProcess; socket: Socket; fd: number }> {
  let words = ['/usr/bin/python3', '-c', CLIENT, join(folder, 's')];
  for (let i = 0; i < shells; i++) words = ['/bin/sh', '-c', '"$@"; :', 'sh', ...words];
  const [file = '', ...rest] = words;
  const child = spawn(file, rest, { stdio: ['pipe', 'inherit', 'inherit'] });
  const [socket] = (await once(server, 'connection')) as [Socket];
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
  return { child, socket, fd };
}

async function end({ child, socket }: { child: ChildProcess; socket: Socket }): Promise<void> {
  child.stdin?.end();
  await once(child, 'exit');
  socket.destroy();
}

it('knows who connected, with the words that the process claims', async () => {
  const one = await client(0);
  const peer = peerOf(one.fd);
  expect([peer.uid, peer.pid]).toEqual([process.geteuid?.(), one.child.pid]);
  const [itself, parent] = peer.processes();
  expect(itself?.pid).toBe(one.child.pid);
  expect(itself?.program).toMatch(/python3/);
  expect(itself?.claimedArguments).toEqual(['/usr/bin/python3', '-c', CLIENT, join(folder, 's')]);
  expect(itself?.startTime).toMatch(/^\d+$/);
  expect(parent?.pid).toBe(process.pid);
  expect(parent?.program).toBe(process.execPath);
  await end(one);
});

it('looks at so many ancestors and no more', async () => {
  const one = await client(MAX_ANCESTORS + 3);
  expect(peerOf(one.fd).processes().length).toBe(MAX_ANCESTORS);
  await end(one);
});

it('says nothing of a process that is gone, whoever has its number now', async () => {
  const one = await client(0);
  const late = peerOf(one.fd);
  await end(one);
  expect(late.processes()).toEqual([]);
});

it('throws for a descriptor that is no socket', () => {
  expect(() => peerOf(0x7fff)).toThrow();
});
