/** How each run of ssh-add begins and ends: the way to the agent, and the exit code that an error stands for. */
import type { AgentClient } from '../client/client.ts';
import { connectAgent } from '../client/connect.ts';
import { AgentError } from '../client/error.ts';
import { systemErrorText } from './errors.ts';
import { Fatal, OUTPUT_CLOSED_EXIT, type Output, OutputClosed, shown } from './output.ts';

const NO_AGENT_EXIT = 2;

async function connect(path: string | undefined, out: Output): Promise<AgentClient | undefined> {
  try {
    // connectAgent has a meaning of its own for "none"; OpenSSH takes it for a file.
    return await connectAgent(path === 'none' ? './none' : (path ?? ''));
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    if (error.cause === undefined) out.error('Could not open a connection to your authentication agent.');
    else out.error(`Error connecting to agent: ${systemErrorText(error.cause)}`);
    out.hint(
      error.cause === undefined
        ? 'SSH_AUTH_SOCK names no agent. To start one: eval "$(ssh-agent -s)"'
        : `SSH_AUTH_SOCK is ${shown(path ?? '')}. To start another agent: eval "$(ssh-agent -s)"`,
    );
    return undefined;
  }
}

/**
 * Connects to the agent at `path`, and returns the exit code of `work`, or 2 without an agent. The connection ends with the
 * process: to close it costs a millisecond, since Node makes a stream of standard error for that.
 */
export async function withAgent(
  path: string | undefined,
  out: Output,
  work: (agent: AgentClient) => Promise<number>,
  connected?: AgentClient,
): Promise<number> {
  const agent = connected ?? (await connect(path, out));
  return agent === undefined ? NO_AGENT_EXIT : work(agent);
}

/** The exit code of `work`, or of what it throws, said on `out`. */
export async function concluded(out: Output, work: () => Promise<number>): Promise<number> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof OutputClosed) return OUTPUT_CLOSED_EXIT;
    if (error instanceof Fatal) {
      out.error(error.message);
      return error.exitCode;
    }
    // A fault of ours: its words, but no stack trace, which could show what should stay in memory.
    out.error(`ssh-add: ${shown(error instanceof Error ? error.message : String(error))}`);
    return 255;
  }
}
