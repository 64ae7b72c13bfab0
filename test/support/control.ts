/** Asks an agent's control socket, by hand. */
import { connect } from 'node:net';

export interface ShownStatus {
  readonly pid: number;
  readonly keys: number;
  readonly locked: boolean;
  readonly sessions: number;
  readonly waitingQuestions: number;
  readonly custody: { readonly pages: string; readonly mappedBytes: number; readonly usedBytes: number };
  readonly process: { readonly undumpable: boolean; readonly noCoreFiles: boolean };
  readonly connections: readonly {
    readonly uid: number;
    readonly pid: number;
    readonly processes: readonly {
      readonly pid: number;
      readonly program?: string;
      readonly claimedArguments: readonly string[];
    }[];
  }[];
  readonly recent: readonly { readonly text: string }[];
}

/** Sends `bytes` and half-closes. @returns all that comes back */
export function controlBytes(agentSocket: string, bytes: Uint8Array | string): Promise<string> {
  return new Promise((done) => {
    let text = '';
    const socket = connect(`${agentSocket}.control`);
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    socket.on('error', () => {});
    socket.on('close', () => done(text));
    socket.end(bytes);
  });
}

export async function status(agentSocket: string): Promise<ShownStatus> {
  const answer = JSON.parse(await controlBytes(agentSocket, '{"version":1,"command":"status"}\n'));
  if (answer.ok !== true) throw new Error(JSON.stringify(answer));
  return answer.result;
}
