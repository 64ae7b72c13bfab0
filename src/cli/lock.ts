/**
 * `latchkey lock` and `latchkey unlock`: the pass phrase goes over the agent's own socket, where it stays out of strings
 * and is wiped, and not over the control socket, whose lines are JSON.
 */
import { connectAgent } from '../client/connect.ts';
import { AgentError } from '../client/error.ts';
import { agentSocket, type Command, DONE_EXIT, FAILED_EXIT, NO_AGENT_EXIT, parseCommon } from './command.ts';
import { errorText } from './errors.ts';
import { jsonText, type Output, shown } from './output.ts';
import { readPassphrase } from './passphrase.ts';
import { lock } from './ssh-add-agent.ts';

async function run(locking: boolean, argv: readonly string[], env: NodeJS.ProcessEnv, output: Output): Promise<number> {
  const { json, socket } = parseCommon(argv);
  const path = agentSocket(env, socket);
  let agent: Awaited<ReturnType<typeof connectAgent>>;
  try {
    agent = await connectAgent(path);
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    output.error(`latchkey: no agent answers at ${shown(path)}: ${errorText(error)}`);
    return NO_AGENT_EXIT;
  }
  try {
    const done = await lock({ agent, out: output, ask: (prompt) => readPassphrase(prompt, env, output) }, locking);
    if (json) output.line(jsonText({ [locking ? 'locked' : 'unlocked']: done }));
    return done ? DONE_EXIT : FAILED_EXIT;
  } finally {
    agent.close();
  }
}

export const lockCommand: Command = {
  name: 'lock',
  summary: 'encrypts every key under a pass phrase, until it is unlocked',
  usage: `usage: latchkey lock [--json] [--socket socket]

Asks for a pass phrase twice and locks the agent of this shell: its keys are encrypted under it, nothing is listed or
signed, and answers that last are forgotten. As ssh-add -x.

Examples:
  latchkey lock`,
  run: (argv, env, output) => run(true, argv, env, output),
};

export const unlockCommand: Command = {
  name: 'unlock',
  summary: 'unlocks a locked agent',
  usage: `usage: latchkey unlock [--json] [--socket socket]

Asks for the pass phrase that the agent was locked with. A wrong one costs whoever guesses growing time, and nobody else.
As ssh-add -X.

Examples:
  latchkey unlock`,
  run: (argv, env, output) => run(false, argv, env, output),
};
