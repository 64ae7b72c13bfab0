/** The client of the control socket: one request, one answer (docs/protocol.md). */
import { connect } from 'node:net';
import type { AgentStatus } from '../agent/agent.ts';
import type { LogLevel } from '../agent/ports.ts';
import type { TokenStatus } from '../backends/pkcs11.ts';
import type { PeerProcess } from '../policy/facts.ts';
import { CONTROL_VERSION } from '../server/control.ts';
import type { Hardening } from '../server/process.ts';

/** An answer of more bytes is not read. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
const ANSWER_MS = 5000;

export class ControlError extends Error {}

/** What the command `status` answers. */
export interface Status extends AgentStatus {
  readonly program: string;
  readonly version: string;
  readonly pid: number;
  /** Null: the system handed the socket over. */
  readonly socket: string | null;
  readonly uptimeSeconds: number;
  readonly node: string;
  readonly openssl: string;
  readonly signing: string;
  /** Libraries whose keys are held, and their tokens as last seen. */
  readonly tokens: readonly { readonly provider: string; readonly tokens: readonly TokenStatus[] }[];
  readonly process: Hardening;
  readonly connections: readonly {
    readonly uid: number | null;
    readonly pid: number | null;
    readonly processes: readonly PeerProcess[];
  }[];
  readonly recent: readonly { readonly time: string; readonly level: LogLevel; readonly text: string }[];
}

function ask(path: string, command: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let answer = '';
    const fail = (error: Error): void => {
      socket.destroy();
      reject(error);
    };
    socket.setEncoding('utf8');
    socket.setTimeout(ANSWER_MS, () => fail(new ControlError('no answer')));
    socket.on('connect', () => socket.write(`${JSON.stringify({ version: CONTROL_VERSION, command })}\n`));
    socket.on('error', fail);
    socket.on('close', () => fail(new ControlError('it hung up')));
    socket.on('data', (chunk: string) => {
      answer += chunk;
      if (answer.length > MAX_ANSWER_BYTES) fail(new ControlError('the answer is too long'));
      const end = answer.indexOf('\n');
      if (end < 0) return;
      socket.destroy();
      try {
        resolve(JSON.parse(answer.slice(0, end)));
      } catch {
        reject(new ControlError('the answer is not JSON'));
      }
    });
  });
}

/** @throws ControlError, Error with the system's code where nobody listens */
export async function statusOf(path: string): Promise<Status> {
  const answer = (await ask(path, 'status')) as { ok?: unknown; result?: unknown; error?: unknown };
  if (answer.ok !== true) throw new ControlError(typeof answer.error === 'string' ? answer.error : 'refused');
  return answer.result as Status;
}
