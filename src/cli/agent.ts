/** `latchkey agent`: the agent in the foreground, or a command under an agent of its own. */
import { existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isAlive, privateSocketPath } from '../server/listen.ts';
import { type Command, DONE_EXIT, defaultSocket, FAILED_EXIT, homeOf, Usage } from './command.ts';
import { become, startDetached } from './daemon.ts';
import { getopt } from './getopt.ts';
import { Fatal, type Output, shown, VERSION } from './output.ts';
import { type ServePlan, serve } from './serve.ts';
import { convtime } from './times.ts';

const USAGE = `usage: latchkey agent [-d] [-a socket] [-t life] [-- command [arg ...]]

Runs the agent in the foreground, or a command under an agent of its own. What comes from other machines by agent
forwarding is asked for, or refused; the rules of config.toml come first (latchkey check).

  -a socket   listen here instead of $XDG_RUNTIME_DIR/latchkey/agent.sock
  -t life     lifetime of keys that are added without one: 90, 10m, 8h, 2d
  -d          say more on standard error

Examples:
  latchkey agent                      then, in another shell, the line that it prints
  latchkey agent -t 8h -- ssh host    one command under an agent of its own`;

/** What stands before our programs' names where PATH does not find them: nothing, where it does. */
function binFolder(env: NodeJS.ProcessEnv): string {
  const bin = join(dirname(process.argv[1] ?? ''), '..', 'bin');
  if (!existsSync(join(bin, 'latchkey')) || (env.PATH ?? '').split(':').includes(bin)) return '';
  return `${shown(bin)}/`;
}

interface AgentArguments {
  readonly path: string | undefined;
  readonly lifetime: number | undefined;
  readonly debug: boolean;
  readonly command: readonly string[];
}

function parseAgent(argv: readonly string[]): AgentArguments {
  const given = getopt(argv, 'a:dt:');
  let path: string | undefined;
  let lifetime: number | undefined;
  let debug = false;
  for (const option of given.options) {
    if (option.kind !== 'letter') throw new Usage(option.kind === 'error' ? option.text : option.name);
    if (option.letter === 'a') path = option.value;
    else if (option.letter === 'd') debug = true;
    else {
      lifetime = convtime(option.value ?? '');
      if (lifetime === undefined)
        throw new Usage(`Invalid lifetime: ${shown(option.value ?? '')}: say 90, 10m, 8h or 2d`);
    }
  }
  const { operands } = given;
  // The launcher looks for it too, to hand the command its environment as it was.
  if (operands.length > 0 && argv.at(-operands.length - 1) !== '--') throw new Usage('put -- before the command');
  return { path, lifetime, debug, command: operands };
}

async function run(argv: readonly string[], env: NodeJS.ProcessEnv, output: Output): Promise<number> {
  const { path: given, lifetime, debug, command } = parseAgent(argv);
  const plan: ServePlan = {
    program: 'latchkey',
    foreground: true,
    logLevel: debug ? 'debug' : 'info',
    ...(lifetime === undefined ? {} : { lifetime }),
  };
  if (command.length > 0) {
    const path = given ?? privateSocketPath(homeOf(env));
    const { pid } = await startDetached(path, { ...plan, parent: process.pid });
    become(command, path, pid, output);
  }
  const path = given ?? defaultSocket(env);
  if (given === undefined) mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  if (await isAlive(path)) {
    throw new Fatal(
      `an agent listens on ${shown(path)} already. To use it: export SSH_AUTH_SOCK=${shown(path)}. To run another: -a socket`,
      FAILED_EXIT,
    );
  }
  await serve({ ...plan, path });
  const bin = binFolder(env);
  output.lines([
    `Latchkey ${VERSION} listens on ${shown(path)} (pid ${process.pid}). To use it, in another shell:`,
    `  export SSH_AUTH_SOCK=${shown(path)}`,
    `  ${bin}ssh-add                 add your keys; -t 8h for a time, -c to be asked at each use`,
    `  ${bin}latchkey status         what it holds, and how`,
    `  ${bin}latchkey watch          shows each request, and asks you there`,
    'To end it, and wipe every key: Ctrl-C.',
  ]);
  return DONE_EXIT;
}

export const agentCommand: Command = {
  name: 'agent',
  summary: 'runs the agent in the foreground, or a command under an agent of its own',
  usage: USAGE,
  run,
};
