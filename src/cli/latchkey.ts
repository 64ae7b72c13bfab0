/** The native command: `latchkey agent`, `latchkey status`. Help, errors and exit codes (0 done, 1 failed, 2 no agent). */
import { existsSync, mkdirSync } from 'node:fs';
import { userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { controlSocketPath, isAlive, privateSocketPath } from '../server/listen.ts';
import { ControlError, type Status, statusOf } from './control.ts';
import { become, leave, SERVE, startDetached } from './daemon.ts';
import { systemErrorText } from './errors.ts';
import { getopt } from './getopt.ts';
import { Fatal, shown, standardOutput, VERSION } from './output.ts';
import { type ServePlan, serve } from './serve.ts';
import { convtime } from './times.ts';

const FAILED_EXIT = 1;
const NO_AGENT_EXIT = 2;
const output = standardOutput();

const USAGE = `usage: latchkey agent [-d] [-a socket] [-t life] [-- command [arg ...]]
       latchkey status [--json] [--socket socket]
       latchkey --help | --version

  agent    runs the agent in the foreground, or a command under an agent of its own
  status   what the agent of this shell holds, how it keeps it, and what it refused

  -a socket   listen here instead of $XDG_RUNTIME_DIR/latchkey/agent.sock
  -t life     lifetime of keys that are added without one: 90, 10m, 8h, 2d
  -d          say more on standard error

Examples:
  latchkey agent                      then, in another shell, the line that it prints
  latchkey agent -t 8h -- ssh host    one command under an agent of its own
  latchkey status --json | jq .custody`;

class Usage extends Error {}

function homeOf(env: NodeJS.ProcessEnv): string {
  return env.HOME !== undefined && env.HOME !== '' ? env.HOME : userInfo().homedir;
}

/** The agent's fixed place; XDG_RUNTIME_DIR is private and goes when its user logs out. */
function defaultSocket(env: NodeJS.ProcessEnv): string {
  const runtime = env.XDG_RUNTIME_DIR;
  if (runtime?.startsWith('/')) return join(runtime, 'latchkey', 'agent.sock');
  return join(homeOf(env), '.local', 'state', 'latchkey', 'agent.sock');
}

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

async function agent(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
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
    'To end it, and wipe every key: Ctrl-C.',
  ]);
}

/** Sizes as people say them. */
function kib(bytes: number): string {
  return `${Math.ceil(bytes / 1024)} KiB`;
}

const PAGES: Readonly<Record<string, string>> = {
  memfd_secret: 'secret memory (memfd_secret): no other process can read it, not even root',
  locked: 'locked memory: not swapped and not in core files, but root can read it',
  plain: 'ORDINARY MEMORY, which may be swapped out: no memory could be locked (ulimit -l)',
};

function describe(status: Status): readonly string[] {
  const { custody } = status;
  const lines = [
    `agent      ${status.program} ${status.version}, pid ${status.pid}, up ${status.uptimeSeconds} s`,
    `socket     ${status.socket === null ? 'handed over by the system' : shown(status.socket)}`,
    `keys       ${status.keys}${status.locked ? ', locked: encrypted under the pass phrase' : ''}`,
    `custody    ${PAGES[custody.pages] ?? custody.pages}; ${kib(custody.usedBytes)} in use`,
    `signing    ${status.signing} (OpenSSL ${status.openssl}, Node.js ${status.node})`,
    `process    ${status.process.undumpable ? 'no debugger' : 'DEBUGGERS ALLOWED'}, ${status.process.noCoreFiles ? 'no core files' : 'CORE FILES ALLOWED'}`,
  ];
  for (const { provider, tokens } of status.tokens)
    for (const { label, present, keys } of tokens)
      lines.push(`token      ${shown(label)}: ${keys} keys, ${present ? 'there' : 'NOT THERE'} (${shown(provider)})`);
  for (const { pid, processes } of status.connections) {
    const words = processes.map(({ program, claimedArguments }) => program ?? claimedArguments[0] ?? '?');
    lines.push(`connected  pid ${pid ?? 'unknown'}${words.length > 0 ? `: ${shown(words.join(' < '))}` : ''}`);
  }
  const refused = status.recent.filter(({ level, text }) => level === 'error' || text.startsWith('refused'));
  for (const { time, text } of refused.slice(-5)) lines.push(`${time}  ${shown(text)}`);
  return lines;
}

async function status(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  let json = false;
  let socket: string | undefined;
  for (let i = 0; i < argv.length; i++) {
    if (argv[i] === '--json') json = true;
    else if (argv[i] === '--socket' && argv[i + 1] !== undefined) socket = argv[++i];
    else throw new Usage(`unknown word: ${shown(argv[i] ?? '')}`);
  }
  const path = socket ?? (env.SSH_AUTH_SOCK || defaultSocket(env));
  try {
    const found = await statusOf(controlSocketPath(path));
    if (json) output.line(JSON.stringify(found, undefined, 2));
    else output.lines(describe(found));
    return 0;
  } catch (error) {
    const why = error instanceof ControlError ? error.message : systemErrorText(error);
    output.error(`latchkey: no Latchkey agent answers at ${shown(controlSocketPath(path))}: ${why}`);
    output.hint('SSH_AUTH_SOCK may name another agent, which has no control socket. To start ours: latchkey agent');
    return NO_AGENT_EXIT;
  }
}

async function run(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const [command, ...rest] = argv;
  if (rest[0] === '--help') {
    output.line(USAGE);
    return 0;
  }
  switch (command) {
    case 'agent':
      await agent(rest, env);
      return 0;
    case 'status':
      return status(rest, env);
    case '--help':
    case '-h':
    case 'help':
      output.line(USAGE);
      return 0;
    case '--version':
    case '-V':
      output.line(`latchkey ${VERSION}`);
      return 0;
    default:
      throw new Usage(command === undefined ? '' : `unknown command: ${shown(command)}`);
  }
}

/** Runs latchkey; sets the exit code, or leaves, or becomes the command. */
export async function main(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  try {
    if (argv[0] === SERVE) await serve(JSON.parse(argv[1] ?? '') as ServePlan);
    else process.exitCode = await run(argv, env);
  } catch (error) {
    if (error instanceof Usage) {
      if (error.message !== '') output.error(`latchkey: ${error.message}`);
      output.error(USAGE);
    } else if (error instanceof Fatal) output.error(`latchkey: ${error.message}`);
    else output.error(`latchkey: ${error instanceof Error ? error.message : 'unknown error'}`);
    leave(FAILED_EXIT);
  }
}
