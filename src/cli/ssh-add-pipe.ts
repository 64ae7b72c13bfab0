/**
 * The shortest way to the agent for a program that asks once and ends: Node's own handle of a Unix socket, without node:net,
 * whose loading takes longer than all else that `ssh-add -l` does. Such handles are not documented: whatever is not as
 * expected, an agent that can't be reached included, is left to connectAgent, which has words for it.
 */
import { readSync, writeSync } from 'node:fs';
import { type AgentClient, type ByteStream, createAgentClient } from '../client/client.ts';
import { MAX_SOCKET_PATH } from '../wire/socketpath.ts';

/** What is used of the handle. */
interface Pipe {
  readonly fd: number;
  connect(request: object, path: string): number;
  setBlocking(isBlocking: boolean): number;
  close(): void;
}

interface PipeBinding {
  readonly Pipe: new (kind: number) => Pipe;
  readonly PipeConnectWrap: new () => { oncomplete?: (status: number) => void };
  readonly constants: { readonly SOCKET: number };
}

const READ_BYTES = 64 * 1024;

/** Asks and waits. One answer is read for each request: a read without one to come would never return. */
class BlockingStream implements ByteStream {
  readonly #pipe: Pipe;
  readonly #listeners = new Map<string, (given: never) => void>();
  readonly #buffer = Buffer.allocUnsafeSlow(READ_BYTES);

  constructor(pipe: Pipe) {
    this.#pipe = pipe;
  }

  on(event: string, listener: (given: never) => void): void {
    this.#listeners.set(event, listener);
  }

  #tell(event: string, given?: unknown): void {
    this.#listeners.get(event)?.(given as never);
  }

  write(bytes: Uint8Array, done: () => void): void {
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#pipe.fd, bytes, at);
    } catch (error) {
      this.#tell('error', error);
      return;
    } finally {
      done();
    }
    queueMicrotask(this.#read);
  }

  readonly #read = (): void => {
    try {
      const length = readSync(this.#pipe.fd, this.#buffer);
      if (length === 0) {
        this.#tell('end');
        return;
      }
      this.#tell('data', this.#buffer.subarray(0, length));
    } catch (error) {
      this.#tell('error', error);
      return;
    }
    // An answer that was whole has ended the program by then.
    setImmediate(this.#read);
  };

  destroy(): void {
    this.#pipe.close();
  }
}

/**
 * A client for one request, after whose answer the process ends.
 * @returns undefined where the usual way has to be tried
 */
export function connectOnce(path: string): Promise<AgentClient | undefined> {
  return new Promise((resolve) => {
    try {
      // Node 20 would cut the path off and try that.
      if (Buffer.byteLength(path) > MAX_SOCKET_PATH) {
        resolve(undefined);
        return;
      }
      const { binding } = process as unknown as { binding(name: string): PipeBinding };
      const { Pipe, PipeConnectWrap, constants } = binding.call(process, 'pipe_wrap');
      const pipe = new Pipe(constants.SOCKET);
      const request = new PipeConnectWrap();
      request.oncomplete = (status) => {
        if (status === 0 && pipe.fd >= 0 && pipe.setBlocking(true) === 0)
          resolve(createAgentClient(new BlockingStream(pipe)));
        else resolve(undefined);
      };
      if (pipe.connect(request, path) !== 0) resolve(undefined);
    } catch {
      resolve(undefined);
    }
  });
}
