/**
 * `latchkey watch`: requests as they come, and questions answered with a key press. Away from a terminal, or with --json,
 * lines alone. Ends with the agent.
 */
import { listedLines } from './approve.ts';
import { type Command, DONE_EXIT, NO_AGENT_EXIT, parseCommon, withAgent } from './command.ts';
import { askControl, ControlError, type ControlStream, openControl } from './control.ts';
import { systemErrorText } from './errors.ts';
import { jsonText, type Output, shown } from './output.ts';
import { flat, questionOf, questionsOf } from './questions.ts';
import { type Action, Watched } from './watchkeys.ts';
import { plainText, questionRows, type Row, shownUse, useRows } from './watchrows.ts';
import { Terminal } from './watchterminal.ts';

const SECOND_MS = 1000;
const AGENT_ENDED = 'latchkey: the agent has ended';

type Event = Readonly<Record<string, unknown>> & { readonly event: string };

/** What became of a question, as the event `ended` tells it. */
function endedText({ id, outcome, by, scope, reason }: Event): string {
  const name = flat(String(id));
  if (outcome === 'gone') return `${name} is over: ${flat(String(reason ?? 'nobody waits for it any more'))}`;
  return `${name} ${flat(String(outcome))} by ${flat(String(by))}${outcome === 'allowed' ? `: ${flat(String(scope))}` : ''}`;
}

/** Opens the stream; events that come before the questions of its answer are told after them. */
async function open(path: string, onEvent: (event: Event) => void): Promise<ControlStream> {
  const early: Event[] = [];
  let isOpen = false;
  const stream = await openControl(path, 'watch', {}, (event) => {
    if (isOpen) onEvent(event);
    else early.push(event);
  });
  for (const question of questionsOf(stream.result)) onEvent({ event: 'question', question });
  isOpen = true;
  for (const event of early) onEvent(event);
  return stream;
}

function printed(event: Event, json: boolean): readonly string[] {
  if (json) return [jsonText(event)];
  switch (event.event) {
    case 'question':
      return listedLines(questionOf(event.question));
    case 'ended':
      return [endedText(event)];
    case 'use': {
      const use = shownUse(event.record);
      return use === undefined ? [] : useRows(use, Number.POSITIVE_INFINITY).map(plainText);
    }
    default:
      return [];
  }
}

async function printLines(path: string, json: boolean, output: Output): Promise<number> {
  let failure: unknown;
  let stream: ControlStream | undefined;
  const tell = (event: Event): void => {
    try {
      output.lines(printed(event, json));
    } catch (error) {
      // Thrown from within an event, it would end the program with a trace.
      failure ??= error;
      stream?.close();
    }
  };
  stream = await open(path, tell);
  if (failure === undefined) await stream.ended;
  if (failure !== undefined) throw failure;
  output.error(AGENT_ENDED);
  return NO_AGENT_EXIT;
}

async function watchTerminal(path: string, env: NodeJS.ProcessEnv, output: Output): Promise<number> {
  const terminal = new Terminal(env);
  const watched = new Watched();
  let isWhole = true;
  let announced: string | undefined;
  let rung: string | undefined;
  const now = (): number => performance.now();

  const rowsOf = (): readonly Row[] => {
    const { focus } = watched;
    if (focus === undefined) {
      isWhole = true;
      return [[{ text: 'Nothing waits for an answer. q quits.', style: 'faint' }]];
    }
    const secondsLeft = Math.max(0, Math.ceil((focus.endsAt - now()) / SECOND_MS));
    const { place, waiting, confirmsRule, note } = watched;
    const view = { question: focus.question, secondsLeft, place, waiting, confirmsRule, note };
    // One row stays free for the line above.
    const found = questionRows(view, terminal.columns, terminal.height - 1);
    isWhole = found.isWhole;
    return found.rows;
  };
  const draw = (): void => {
    const { focus, confirmsRule, note } = watched;
    const id = focus?.question.id;
    const what = `${id} ${confirmsRule} ${note ?? ''}`;
    terminal.draw(rowsOf(), { isNews: id !== undefined && what !== announced, rings: id !== undefined && id !== rung });
    announced = what;
    rung = id;
  };
  let quit = (): void => {};
  const quitting = new Promise<'quit'>((resolve) => {
    quit = () => resolve('quit');
  });
  let failure: unknown;
  const tell = (event: Event): void => {
    try {
      take(event);
    } catch (error) {
      failure ??= error;
      quit();
    }
  };
  const take = (event: Event): void => {
    if (event.event === 'question') watched.put(questionOf(event.question), now());
    else if (event.event === 'ended') {
      terminal.print([[{ text: endedText(event), style: 'faint' }]]);
      watched.end(String(event.id), now());
    } else if (event.event === 'use') {
      const use = shownUse(event.record);
      if (use !== undefined) terminal.print(useRows(use, terminal.columns));
    }
    draw();
  };
  const answer = async ({ id, kind, ...rest }: Extract<Action, { id: string }>): Promise<void> => {
    try {
      await askControl(path, kind, { id, by: 'watch', ...rest });
      watched.end(id, now());
    } catch (error) {
      const why = error instanceof ControlError ? error.message : systemErrorText(error);
      watched.failed(id, `Not answered: ${shown(why)}`);
    }
    draw();
  };

  const keys = (bytes: string): void => {
    const action = watched.press(bytes, now(), isWhole);
    switch (action?.kind) {
      case 'quit':
        quit();
        break;
      case 'suspend':
        terminal.suspend();
        break;
      case 'approve':
      case 'deny':
        void answer(action);
        break;
      case 'redraw':
        draw();
        break;
      case undefined:
        break;
      default:
        action satisfies never;
    }
  };

  // The terminal is ours only once there is an agent.
  const early: Event[] = [];
  let isOpen = false;
  const stream = await open(path, (event) => {
    if (isOpen) tell(event);
    else early.push(event);
  });
  let clock: NodeJS.Timeout | undefined;
  try {
    terminal.open({
      onKeys: keys,
      onResize: draw,
      onContinue: () => {
        watched.unread(now());
        draw();
      },
      onHangUp: quit,
    });
    isOpen = true;
    draw();
    for (const event of early) tell(event);
    clock = setInterval(() => {
      if (watched.focus !== undefined) draw();
    }, SECOND_MS);
    const how = await Promise.race([quitting, stream.ended]);
    if (failure !== undefined) throw failure;
    if (how === 'quit') return DONE_EXIT;
  } finally {
    clearInterval(clock);
    terminal.close();
    stream.close();
  }
  output.error(AGENT_ENDED);
  return NO_AGENT_EXIT;
}

export const watchCommand: Command = {
  name: 'watch',
  summary: 'shows requests as they come, and answers questions by a key press',
  usage: `usage: latchkey watch [--json] [--socket socket]

Shows each use of the agent as it happens, and each question that waits for an answer: what would be signed, what of that
is verified and what is only claimed. It works over ssh and in tmux, and ends with the agent.

  y  yes, this once                     n    refuse
  c  yes, until that command ends       tab  the next question (also up and down)
  d  yes, this destination for a while  q    quit; questions go on waiting
  p  yes, this way and destination      a    always: shows the rule first, and asks again

Only what a question offers is shown. A key that was pressed before a question could be read does not answer it.
Without a terminal it prints what happens as text; with --json one event a line.

Examples:
  latchkey watch
  latchkey watch --json | jq -c 'select(.event == "question") | .question.sentence'`,
  run(argv, env, output) {
    const { json, socket } = parseCommon(argv);
    const isTerminal = process.stdin.isTTY === true && process.stdout.isTTY === true;
    return withAgent(env, socket, output, (path) =>
      json || !isTerminal ? printLines(path, json, output) : watchTerminal(path, env, output),
    );
  },
};
