/** The client of the control socket: one request, one answer (docs/protocol.md). */
import { connect } from 'node:net';
import type { AgentStatus } from '../agent/agent.ts';
import type { LogLevel } from '../agent/ports.ts';
import type { AskingStatus } from '../backends/asking.ts';
import type { TokenStatus } from '../backends/pkcs11.ts';
import type { RecordsStatus } from '../backends/records.ts';
import type { PeerProcess } from '../policy/facts.ts';
import { CONTROL_VERSION } from '../server/controlversion.ts';
import type { Hardening } from '../server/process.ts';
import type { InForceStatus } from './inforce.ts';

/** An answer of more bytes is not read. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
const ANSWER_MS = 5000;

export class ControlError extends Error {
  /** Whether the agent answered, and refused; otherwise nobody answered as an agent does. */
  readonly isRefusal: boolean;

  constructor(text: string, isRefusal = false) {
    super(text);
    this.isRefusal = isRefusal;
  }
}

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
  readonly records: RecordsStatus;
  readonly asking: readonly AskingStatus[];
  readonly configuration: InForceStatus;
  /** Guards that are open. */
  readonly guards: number;
  readonly recent: readonly { readonly time: string; readonly level: LogLevel; readonly text: string }[];
}

type Event = Readonly<Record<string, unknown>> & { readonly event: string };

/** An answered request whose connection stays open for events. */
export interface ControlStream {
  readonly result: unknown;
  /** Settles when the agent hangs up. */
  readonly ended: Promise<void>;
  close(): void;
}

/**
 * Gives `command` to the agent whose control socket is `path`.
 * @param onEvent is called for each event that follows the answer; without it the connection ends with the answer
 * @throws ControlError where the agent refuses, with its words; Error with the system's code where nobody listens
 */
export function openControl(
  path: string,
  command: string,
  given: Readonly<Record<string, unknown>> = {},
  onEvent?: (event: Event) => void,
): Promise<ControlStream> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let pending = '';
    let isAnswered = false;
    let end = (): void => {};
    const ended = new Promise<void>((done) => {
      end = done;
    });
    const fail = (error: Error): void => {
      socket.destroy();
      reject(error);
    };
    const take = (line: string): void => {
      let message: { ok?: unknown; result?: unknown; error?: unknown; event?: unknown };
      try {
        message = JSON.parse(line);
      } catch {
        fail(new ControlError('the answer is not JSON'));
        return;
      }
      if (typeof message.event === 'string') onEvent?.(message as Event);
      else if (message.ok === true) {
        isAnswered = true;
        socket.setTimeout(0);
        if (onEvent === undefined) socket.destroy();
        resolve({ result: message.result, ended, close: () => socket.destroy() });
      } else fail(new ControlError(typeof message.error === 'string' ? message.error : 'refused', true));
    };
    socket.setEncoding('utf8');
    socket.setTimeout(ANSWER_MS, () => fail(new ControlError('no answer')));
    socket.on('connect', () =>
      socket.write(`${JSON.stringify({ version: CONTROL_VERSION, command, arguments: given })}\n`),
    );
    socket.on('error', fail);
    socket.on('close', () => {
      if (!isAnswered) fail(new ControlError('it hung up'));
      end();
    });
    socket.on('data', (chunk: string) => {
      pending += chunk;
      if (pending.length > MAX_ANSWER_BYTES) fail(new ControlError('the answer is too long'));
      for (let at = pending.indexOf('\n'); at >= 0; at = pending.indexOf('\n')) {
        const line = pending.slice(0, at);
        pending = pending.slice(at + 1);
        take(line);
      }
    });
  });
}

/** The result of one command. @throws as openControl */
export async function askControl(
  path: string,
  command: string,
  given: Readonly<Record<string, unknown>> = {},
): Promise<unknown> {
  return (await openControl(path, command, given)).result;
}
