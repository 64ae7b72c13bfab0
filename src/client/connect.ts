/** Finds the agent by SSH_AUTH_SOCK and connects to it: a Unix socket's path, or on Windows a named pipe's. */
import { createConnection } from 'node:net';
import { utf8 } from '../wire/bytes.ts';
import { MAX_SOCKET_PATH } from '../wire/socketpath.ts';
import { type AgentClient, createAgentClient } from './client.ts';
import { AgentError } from './error.ts';

export { AgentError } from './error.ts';

export interface ConnectOptions {
  /** Gives up while connecting; afterwards it closes the connection. */
  readonly signal?: AbortSignal;
}

/** What ssh_config writes for "no agent". */
const NO_AGENT = 'none';

/**
 * Connects to the agent at `path`.
 * @throws AgentError 'no-agent', with the system's error as `cause` where there was one; the signal's reason when aborted
 */
export async function connectAgent(
  path: string | undefined = process.env.SSH_AUTH_SOCK,
  options: ConnectOptions = {},
): Promise<AgentClient> {
  if (path === undefined || path === '' || path === NO_AGENT)
    throw new AgentError('no-agent', 'no agent is named: SSH_AUTH_SOCK is not set');
  const { signal } = options;
  signal?.throwIfAborted();
  // Node 20 would cut the path off and try that; newer ones say "invalid argument".
  if (utf8(path).length > MAX_SOCKET_PATH) {
    const cause = Object.assign(new Error('ENOENT: no socket has so long a path'), { code: 'ENOENT', errno: -2 });
    throw new AgentError('no-agent', `no agent can be reached at ${path}`, { cause });
  }
  return new Promise((resolve, reject) => {
    const unreachable = (cause: unknown): AgentError =>
      new AgentError('no-agent', `no agent can be reached at ${path}`, { cause });
    let socket: ReturnType<typeof createConnection>;
    try {
      socket = createConnection({ path, allowHalfOpen: false });
    } catch (cause) {
      // A path with a NUL, or longer than a socket's name may be.
      reject(unreachable(cause));
      return;
    }
    const failed = (cause: Error): void => {
      signal?.removeEventListener('abort', aborted);
      reject(unreachable(cause));
    };
    const aborted = (): void => {
      socket.destroy();
      reject(signal?.reason);
    };
    signal?.addEventListener('abort', aborted, { once: true });
    socket.once('error', failed);
    socket.once('close', () => signal?.removeEventListener('abort', aborted));
    socket.once('connect', () => {
      socket.removeListener('error', failed);
      resolve(createAgentClient(socket));
    });
  });
}
