import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { lives, MAX_ANCESTORS, peerOf, processOf } from '../../../src/server/peer.ts';
import { until } from '../../../src/testing/harness.ts';

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

/** A program that connects, started through so many shells, one within the other, after the words of `before`. */
async function client(
  shells: number,
  before: readonly string[] = [],
): Promise<{ child: ChildProcess; socket: Socket; fd: number }> {
  let words = [...before, '/usr/bin/python3', '-c', CLIENT, join(folder, 's')];
  for (let i = 0; i < shells; i++) words = ['/bin/sh', '-c', '"$@"; :', 'sh', ...words];
  const [file = '', ...rest] = words;
  const child = spawn(file, rest, { stdio: ['pipe', 'inherit', 'inherit'], cwd: folder, detached: true });
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

it('tells the job, the session, the folder and the namespace of a process', async () => {
  const one = await client(0);
  const { pid } = one.child;
  const [itself, parent] = peerOf(one.fd).processes();
  expect(itself).toMatchObject({ group: pid, session: pid, hasTerminal: false, isInOurNamespace: true });
  expect(itself?.folder).toBe(realpathSync(folder));
  expect(parent?.folder).toBe(process.cwd());
  await end(one);
});

it('tells that a process has a terminal', async () => {
  const words = `${['/usr/bin/python3', '-c', `'${CLIENT}'`, join(folder, 's')].join(' ')}`;
  const child = spawn('/usr/bin/script', ['-qec', words, '/dev/null'], { stdio: ['pipe', 'ignore', 'inherit'] });
  const [socket] = (await once(server, 'connection')) as [Socket];
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
  const [itself] = peerOf(fd).processes();
  expect(itself).toMatchObject({ hasTerminal: true });
  expect(itself?.session).not.toBe(process.pid);
  child.stdin?.end();
  await once(child, 'exit');
  socket.destroy();
});

it('tells a process in another pid namespace, as that of a container, from those in ours', async () => {
  const asOther = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user'];
  const one = await client(0, ['/usr/bin/unshare', ...asOther, '--pid', '--fork', '--kill-child']);
  const [itself, parent] = peerOf(one.fd).processes();
  expect(itself?.isInOurNamespace).toBe(false);
  expect(parent).toMatchObject({ pid: one.child.pid, isInOurNamespace: true });
  await end(one);
});

it('tells whether that very process lives', async () => {
  const child = spawn('/bin/sh', ['-c', 'read line'], { stdio: ['pipe', 'ignore', 'ignore'] });
  const found = processOf(child.pid ?? 0);
  if (found === undefined) throw new Error('no process');
  expect(found).toMatchObject({ pid: child.pid, folder: process.cwd() });
  expect(lives(found)).toBe(true);
  expect(lives({ ...found, startTime: '1' })).toBe(false);
  child.stdin?.end();
  await once(child, 'exit');
  expect(lives(found)).toBe(false);
  expect(processOf(found.pid)).toBeUndefined();
});

it('a process that has ended does not live on until its parent takes note', async () => {
  const parent = spawn('/usr/bin/python3', [
    '-c',
    'import os, sys\npid = os.fork() or os._exit(0)\nprint(pid, flush=True)\nsys.stdin.read()',
  ]);
  const [text] = (await once(parent.stdout, 'data')) as [Buffer];
  await until(() => processOf(Number(text)) === undefined, 'the child has ended');
  expect(existsSync(`/proc/${Number(text)}`)).toBe(true);
  parent.stdin.end();
  await once(parent, 'exit');
});

it('there is no process of an odd number', () => {
  expect([0, -1, 1.5, Number.NaN].map(processOf)).toEqual([undefined, undefined, undefined, undefined]);
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
