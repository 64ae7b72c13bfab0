/** `latchkey guard`: opens a restricted socket, for a forwarded agent, a container or one command; lists and revokes them. */
import { basename } from 'node:path';
import type { ShownGuard } from '../server/guardcommands.ts';
import { isGuardName } from '../server/guards.ts';
import { agentSocket, type Command, DONE_EXIT, FAILED_EXIT, Usage, withAgent } from './command.ts';
import { askControl } from './control.ts';
import { becomeCommand, leave, type Word } from './daemon.ts';
import {
  GUARD_OPTIONS,
  type GuardWords,
  guardArguments,
  noWords,
  takeGuardOption,
  wordBehind,
} from './guardoptions.ts';
import { Fatal, jsonText, type Output, shown } from './output.ts';

const USAGE = `usage: latchkey guard [--key KEY] [--to [user@]HOST] [--via HOST] [--for TIME] [--count N] [--ask | --allow]
                      [--json] [-- COMMAND [ARG ...]]
       latchkey guard --list [--json]
       latchkey guard --revoke ID|all [--json]

Opens another socket of the agent and prints its path. Through it, keys can be listed and used within these bounds, and
everything counts as coming from another machine; nothing can be added, removed or locked.

${GUARD_OPTIONS}
  --list           what is open
  --revoke ID      ends a guard, and cuts its connections
  --ensure NAME    opens the guard of this name, or renews the time of the one that is open (see latchkey ssh-config)

With a COMMAND the guard ends when it ends. For ssh it is what is forwarded (ssh itself logs in with the agent); for any
other it is the SSH_AUTH_SOCK. Where a word of the COMMAND holds {}, the path takes its place, and nothing else is set.

Examples:
  latchkey guard --to git@github.com -- ssh bastion      on bastion, git push works and nothing else does
  ssh -o ForwardAgent=$(latchkey guard --for 2h) bastion
  latchkey guard --key work --allow -- npm run deploy
  latchkey guard --key work -- docker build --ssh default={} .`;

/** Where a command's words hold this, the path goes. */
const PLACE = '{}';

interface Parsed {
  readonly words: GuardWords;
  readonly action: 'open' | 'list' | 'revoke';
  readonly id: string;
  readonly name: string | undefined;
  readonly json: boolean;
  readonly command: readonly string[];
}

function parse(argv: readonly string[]): Parsed {
  const words = noWords();
  let action: Parsed['action'] | undefined;
  let id = '';
  let name: string | undefined;
  let json = false;
  let command: readonly string[] = [];
  const choose = (one: Parsed['action']): void => {
    if (action !== undefined && action !== one) throw new Usage('--list or --revoke, not both');
    action = one;
  };
  let isBound = false;
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] as string;
    const next = (): string => wordBehind(argv, ++i, word);
    if (word === '--') {
      command = argv.slice(i + 1);
      if (command.length === 0) throw new Usage('no command behind --');
      break;
    }
    if (word === '--json') json = true;
    else if (word === '--list') choose('list');
    else if (word === '--revoke') {
      choose('revoke');
      id = next();
    } else if (word === '--ensure') name = next();
    else if (takeGuardOption(words, word, next)) isBound ||= word !== '--socket';
    else
      throw new Usage(
        word.startsWith('-') ? `unknown option: ${shown(word)}` : `put -- before the command: ${shown(word)}`,
      );
  }
  if (action !== undefined && (isBound || name !== undefined || command.length > 0))
    throw new Usage('--list and --revoke open no guard');
  if (name !== undefined && command.length > 0) throw new Usage('--ensure takes no command');
  if (json && command.length > 0) throw new Usage('--json takes no command: what it prints is its own');
  return { words, action: action ?? 'open', id, name, json, command };
}

function timeText(seconds: number): string {
  const minutes = Math.ceil(seconds / 60);
  if (seconds < 120) return `${seconds} s`;
  if (minutes < 120) return `${minutes} min`;
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${Math.floor(minutes / 1440)} days`;
}

function plural(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? '' : 's'}`;
}

function describe(guard: ShownGuard): readonly string[] {
  const { id, path, keys, to, via, effect, secondsLeft, remaining, used, connections, pid } = guard;
  const facts = [
    effect === 'ask' ? 'asks for each use' : 'allows what fits',
    ...(secondsLeft === null ? [] : [`${timeText(secondsLeft)} left`]),
    ...(remaining === null ? [] : [`${plural(remaining, 'signature')} left`]),
    ...(pid === null ? [] : [`ends with process ${pid}`]),
    `used ${used === 1 ? 'once' : `${used} times`}`,
    plural(connections, 'connection'),
  ];
  return [
    `${id.padEnd(6)}${facts.join(', ')}`,
    `  path  ${shown(path)}`,
    `  keys  ${keys === null ? 'all' : keys.map(shown).join(' ')}`,
    ...(to === null ? [] : [`  to    ${to.map(shown).join(' ')}`]),
    ...(via === null ? [] : [`  via   ${shown(via)}`]),
  ];
}

async function list(control: string, json: boolean, output: Output): Promise<number> {
  const found = (await askControl(control, 'guards')) as { readonly guards: readonly ShownGuard[] };
  if (json) output.line(jsonText(found, 2));
  else if (found.guards.length === 0) output.line('no guards are open');
  else output.lines(found.guards.flatMap(describe));
  return DONE_EXIT;
}

async function revoke(control: string, id: string, json: boolean, output: Output): Promise<number> {
  const found = await askControl(control, 'revoke', { id });
  output.line(json ? jsonText(found, 2) : `${id === 'all' ? 'all guards' : shown(id)} ended`);
  return DONE_EXIT;
}

/** What a command gets of the guard at `path`: variables, and its words as they are to be. */
export function commandWith(
  command: readonly string[],
  path: string,
  agentPath: string,
): { readonly variables: Readonly<Record<string, string>>; edit(words: readonly Word[]): readonly Word[] } {
  if (command.some((word) => word.includes(PLACE))) {
    const replaced = (word: Word, i: number): Word => {
      const text = command[i] ?? '';
      return text.includes(PLACE) ? text.replaceAll(PLACE, path) : word;
    };
    return { variables: {}, edit: (words) => words.map(replaced) };
  }
  if (basename(command[0] ?? '') !== 'ssh') return { variables: { SSH_AUTH_SOCK: path }, edit: (words) => words };
  // ssh forwards only where it has an agent for itself; a master that runs already would forward what it was started with.
  const options = ['-o', `ForwardAgent=${path}`, '-o', 'ControlPath=none'];
  return {
    variables: { SSH_AUTH_SOCK: agentPath },
    edit: ([program = 'ssh', ...rest]) => [program, ...options, ...rest],
  };
}

async function open(parsed: Parsed, control: string, env: NodeJS.ProcessEnv, output: Output): Promise<number> {
  const { words, name, json, command } = parsed;
  const given = {
    ...(await guardArguments(words, env, output)),
    ...(name === undefined ? {} : { name }),
    // This process becomes the command.
    ...(command.length === 0 ? {} : { pid: process.pid }),
  };
  const guard = (await askControl(control, 'guard', given)) as ShownGuard;
  if (command.length > 0) {
    const { variables, edit } = commandWith(command, guard.path, agentSocket(env, words.socket));
    output.error(shown(becomeCommand(command, variables, edit)));
    // With this process the guard ends as well.
    leave(FAILED_EXIT);
  }
  output.line(json ? jsonText(guard, 2) : guard.path);
  return DONE_EXIT;
}

async function run(argv: readonly string[], env: NodeJS.ProcessEnv, output: Output): Promise<number> {
  const parsed = parse(argv);
  const { name, action, json, id, words } = parsed;
  // A host name, as a rule, from whoever made somebody start ssh.
  if (name !== undefined && !isGuardName(name))
    throw new Fatal(
      `no guard for ${shown(name)}: 1 to 64 letters, digits, dots, colons, hyphens and underscores`,
      FAILED_EXIT,
    );
  return withAgent(env, words.socket, output, (control) => {
    if (action === 'list') return list(control, json, output);
    if (action === 'revoke') return revoke(control, id, json, output);
    return open(parsed, control, env, output);
  });
}

export const guardCommand: Command = {
  name: 'guard',
  summary: 'opens a restricted socket to forward, or to give to one command',
  usage: USAGE,
  run,
};
