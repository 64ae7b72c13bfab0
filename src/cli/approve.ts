/** `latchkey approve` and `latchkey deny`: answer a question that waits, or list those that do. */
import type { Scope } from '../agent/ports.ts';
import { SCOPES } from '../policy/rules.ts';
import { type Command, DONE_EXIT, Usage, withAgent } from './command.ts';
import { askControl, openControl } from './control.ts';
import { jsonText, type Output, shown } from './output.ts';
import { detailsOf, flat, questionsOf, type WatchQuestion } from './questions.ts';

interface Arguments {
  readonly id: string | undefined;
  readonly scope: Scope | undefined;
  readonly json: boolean;
  readonly socket: string | undefined;
}

/** @throws Usage */
function parse(argv: readonly string[], takesScope: boolean): Arguments {
  let id: string | undefined;
  let scope: Scope | undefined;
  let json = false;
  let socket: string | undefined;
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] as string;
    if (word === '--json') json = true;
    else if (word === '--socket' && argv[i + 1] !== undefined) socket = argv[++i];
    else if (word === '--for' && takesScope) {
      scope = SCOPES.find((one) => one === argv[i + 1]);
      if (scope === undefined) throw new Usage(`--for takes ${SCOPES.join(', ')}`);
      i++;
    } else if (word.startsWith('-') || id !== undefined) throw new Usage(`unknown word: ${shown(word)}`);
    else id = word;
  }
  if (scope !== undefined && id === undefined) throw new Usage('--for needs the ID of a question');
  return { id, scope, json, socket };
}

/** The lines of a question, the first with its ID. */
export function listedLines(question: WatchQuestion): readonly string[] {
  const { id, sentence, secondsLeft, forwarded, offers, rule } = question;
  const written = rule?.split('\n').filter((line) => line.trim() !== '') ?? [];
  return [
    `${id}  ${forwarded ? 'forwarded: ' : ''}${flat(sentence)} (${secondsLeft} s left)`,
    ...detailsOf(question).map(([kind, text]) => `  ${kind.padEnd(8)}  ${text}`),
    ...offers.map(({ scope, text }) => `  --for ${scope.padEnd(11)}  ${flat(text)}`),
    // What "always" writes is to be seen before.
    ...written.map((line) => `      ${flat(line)}`),
  ];
}

async function list(path: string, json: boolean, output: Output): Promise<number> {
  const stream = await openControl(path, 'watch', {}, () => {});
  stream.close();
  const questions = questionsOf(stream.result);
  if (json) output.line(jsonText({ questions }));
  else if (questions.length === 0) output.line('Nothing waits for an answer.');
  else output.lines(questions.flatMap(listedLines));
  return DONE_EXIT;
}

async function run(
  command: 'approve' | 'deny',
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  output: Output,
): Promise<number> {
  const { id, scope, json, socket } = parse(argv, command === 'approve');
  return withAgent(env, socket, output, async (path) => {
    if (id === undefined) return list(path, json, output);
    const given = { id, by: command, ...(scope === undefined ? {} : { scope }) };
    const result = (await askControl(path, command, given)) as { readonly scope?: unknown };
    if (json) output.line(jsonText(result));
    else if (command === 'deny') output.line(`${shown(id)}: refused`);
    else output.line(`${shown(id)}: allowed (${shown(String(result?.scope ?? 'once'))})`);
    return DONE_EXIT;
  });
}

export const approveCommand: Command = {
  name: 'approve',
  summary: 'says yes to a question that waits, or lists those that do',
  usage: `usage: latchkey approve [ID [--for once|command|destination|path|always]] [--json] [--socket socket]

Without an ID: lists the questions that wait, what is known of each, and for how long a yes may hold. --for chooses one of
these; without it the yes holds as long as the rule says that asked: once, as a rule.

Examples:
  latchkey approve
  latchkey approve q12
  latchkey approve q12 --for command`,
  run: (argv, env, output) => run('approve', argv, env, output),
};

export const denyCommand: Command = {
  name: 'deny',
  summary: 'refuses a question that waits, or lists those that do',
  usage: `usage: latchkey deny [ID] [--json] [--socket socket]

Without an ID: lists the questions that wait.

Examples:
  latchkey deny q12`,
  run: (argv, env, output) => run('deny', argv, env, output),
};
