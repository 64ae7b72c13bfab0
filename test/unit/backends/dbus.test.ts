import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { connectBus, socketPaths } from '../../../src/backends/dbus.ts';

const folder = mkdtempSync(join(tmpdir(), 'latchkey-dbus-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let server: Server | undefined;
const sockets = new Set<Socket>();
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  server?.close();
});

let made = 0;

/** A bus that answers what it reads with what `behave` does. @returns its address */
async function serve(behave: (socket: Socket, text: string) => void): Promise<string> {
  const path = join(folder, `bus${made++}`);
  server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('data', (chunk) => behave(socket, chunk.toString('latin1')));
  });
  await new Promise<void>((done) => server?.listen(path, done));
  return `unix:path=${path}`;
}

const never = new AbortController().signal;
const connect = (address: string, signal = never): Promise<unknown> => connectBus(address, () => {}, signal);

describe('the address of a bus', () => {
  it.each([
    ['unix:path=/run/user/1000/bus', ['/run/user/1000/bus']],
    ['unix:path=/run/user/1000/bus,guid=0123', ['/run/user/1000/bus']],
    ['unix:guid=0123,path=/a%20b', ['/a b']],
    ['unix:abstract=/tmp/dbus-x', ['\0/tmp/dbus-x']],
    ['tcp:host=localhost,port=1;unix:path=/a;unix:path=/b', ['/a', '/b']],
    ['unix:path=/a%zz', []],
    ['unix:path=/a%00b', []],
    ['unix:path=', []],
    ['unixexec:path=/bin/sh', []],
    ['', []],
  ])('%s', (address, paths) => {
    expect(socketPaths(address)).toEqual(paths);
  });
});

describe('a connection to a bus', () => {
  it('fails in words where nobody listens, or the bus does not let us in', async () => {
    await expect(connect('')).rejects.toThrow('no address');
    await expect(connect(`unix:path=${join(folder, 'missing')}`)).rejects.toThrow('ENOENT');
    const address = await serve((socket) => socket.write('REJECTED EXTERNAL\r\n'));
    await expect(connect(address)).rejects.toThrow('does not let us in');
  });

  it('authenticates as this uid, and takes the next address where one fails', async () => {
    let said = '';
    const address = await serve((socket, text) => {
      said += text;
      socket.destroy();
    });
    await expect(connect(`unix:path=${join(folder, 'missing')};${address}`)).rejects.toThrow('hung up');
    expect(said).toBe(`\0AUTH EXTERNAL ${Buffer.from(String(process.getuid?.())).toString('hex')}\r\n`);
  });

  it('ends where the greeting is too long', async () => {
    const address = await serve((socket) => socket.write('x'.repeat(5000)));
    await expect(connect(address)).rejects.toThrow('too long');
  });

  it('ends with its signal, and leaves no descriptor', async () => {
    const address = await serve(() => {});
    const before = readdirSync('/proc/self/fd').length;
    const over = new AbortController();
    const connecting = connect(address, over.signal);
    setTimeout(() => over.abort(), 50);
    await expect(connecting).rejects.toThrow();
    for (const socket of sockets) socket.destroy();
    while (readdirSync('/proc/self/fd').length > before) await new Promise((resolve) => setTimeout(resolve, 10));
  });

  it('survives whatever a bus may send', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 400 }), fc.boolean(), async (bytes, isMessage) => {
        const address = await serve((socket, text) => {
          if (text.startsWith('\0AUTH')) socket.write('OK 1234\r\n');
          else socket.end(isMessage ? Buffer.concat([Buffer.from([0x6c, 2, 1, 1]), bytes]) : bytes);
        });
        await expect(connect(address)).rejects.toThrow();
        server?.close();
      }),
      { numRuns: 60 },
    );
  });
});
