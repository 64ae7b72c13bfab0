/** The native program: finds the command, prints help, and says what went wrong. Exit codes: 0 done, 1 failed, 2 no agent. */
import { agentCommand } from './agent.ts';
import { approveCommand, denyCommand } from './approve.ts';
import { checkCommand } from './check.ts';
import { type Command, DONE_EXIT, FAILED_EXIT, Usage } from './command.ts';
import { leave, SERVE } from './daemon.ts';
import { guardCommand } from './guard.ts';
import { keysCommand } from './keys.ts';
import { lockCommand, unlockCommand } from './lock.ts';
import { logCommand } from './log.ts';
import { OUTPUT_CLOSED_EXIT, OutputClosed, shown, standardOutput, VERSION } from './output.ts';
import { reloadCommand } from './reload.ts';
import { type ServePlan, serve } from './serve.ts';
import { sshConfigCommand } from './sshconfig.ts';
import { statusCommand } from './status.ts';
import { tryCommand } from './try.ts';
import { watchCommand } from './watch.ts';
import { whyCommand } from './why.ts';

const output = standardOutput();

const COMMANDS: readonly Command[] = [
  agentCommand,
  statusCommand,
  watchCommand,
  approveCommand,
  denyCommand,
  logCommand,
  whyCommand,
  keysCommand,
  guardCommand,
  sshConfigCommand,
  checkCommand,
  tryCommand,
  reloadCommand,
  lockCommand,
  unlockCommand,
];

const NAME_WIDTH = 12;

const USAGE = `usage: latchkey COMMAND [option ...]
       latchkey COMMAND --help
       latchkey --help | --version

${COMMANDS.map(({ name, summary }) => `  ${name.padEnd(NAME_WIDTH)}${summary}`).join('\n')}

Most commands speak to the agent of this shell (SSH_AUTH_SOCK), or to that of --socket. --json prints what a program reads.

Examples:
  latchkey agent                    then, in another shell, the line that it prints
  latchkey watch                    shows each request as it comes, and asks you there
  latchkey log --since yesterday    what your keys were used for`;

async function run(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const [name, ...rest] = argv;
  if (name === '--help' || name === '-h' || name === 'help') {
    const about = COMMANDS.find((command) => command.name === rest[0]);
    output.line(about?.usage ?? USAGE);
    return DONE_EXIT;
  }
  if (name === '--version' || name === '-V') {
    output.line(`latchkey ${VERSION}`);
    return DONE_EXIT;
  }
  const command = COMMANDS.find((one) => one.name === name);
  if (command === undefined) {
    output.error(name === undefined ? USAGE : `latchkey: unknown command: ${shown(name)}\n${USAGE}`);
    return FAILED_EXIT;
  }
  if (rest[0] === '--help' || rest[0] === '-h') {
    output.line(command.usage);
    return DONE_EXIT;
  }
  try {
    return await command.run(rest, env, output);
  } catch (error) {
    if (!(error instanceof Usage)) throw error;
    output.error(`latchkey ${command.name}: ${error.message}\n${command.usage}`);
    return FAILED_EXIT;
  }
}

/** Runs latchkey; sets the exit code, or leaves, or becomes the command. */
export async function main(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  try {
    if (argv[0] === SERVE) await serve(JSON.parse(argv[1] ?? '') as ServePlan);
    else process.exitCode = await run(argv, env);
  } catch (error) {
    if (error instanceof OutputClosed) leave(OUTPUT_CLOSED_EXIT);
    // The system's words hold paths as they were given.
    const text = error instanceof Error ? error.message : 'unknown error';
    output.error(`latchkey: ${text.split('\n').map(shown).join('\n')}`);
    leave(FAILED_EXIT);
  }
}
