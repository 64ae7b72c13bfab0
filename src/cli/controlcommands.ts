/** What the control socket serves beyond the status: questions, their answers, records, and the rules in force. */
import type { Agent } from '../agent/agent.ts';
import type { Question, Reply } from '../agent/ports.ts';
import type { QuestionEvent } from '../agent/questions.ts';
import type { FileRecords } from '../backends/records.ts';
import { SCOPES } from '../policy/rules.ts';
import { type ControlArguments, type ControlClient, type ControlCommand, ControlRefusal } from '../server/control.ts';

/** Who an answer says it is from, in a record: a word. */
const BY = /^[a-z]{1,16}$/;

/** A question as the control socket tells it. */
export type WatchQuestion = Omit<Question, 'opensshText' | 'endsAt'> & {
  readonly secondsLeft: number;
  readonly requests: number;
};

function textOf(given: ControlArguments, name: string): string {
  const value = given[name];
  if (typeof value !== 'string' || value === '') throw new ControlRefusal(`${name} is missing`);
  return value;
}

function toldOf(agent: Agent, question: Question, requests: number): WatchQuestion {
  const { opensshText: _, endsAt, ...told } = question;
  return { ...told, requests, secondsLeft: Math.max(0, Math.ceil((endsAt - agent.ports.clock.now()) / 1000)) };
}

function answerCommand(agent: Agent, allow: boolean): ControlCommand {
  return (given) => {
    const id = textOf(given, 'id');
    const waiting = agent.questions.waiting().find(({ question }) => question.id === id);
    if (waiting === undefined) throw new ControlRefusal(`no question ${id} waits`);
    const { offers, lasts } = waiting.question;
    const scope = SCOPES.find((one) => one === (given.scope ?? lasts));
    if (scope === undefined) throw new ControlRefusal('no such scope: once, command, destination, path or always');
    if (allow && !offers.some((offer) => offer.scope === scope))
      throw new ControlRefusal(`"${scope}" is not on offer: ${offers.map((offer) => offer.scope).join(', ')}`);
    const by = typeof given.by === 'string' && BY.test(given.by) ? given.by : allow ? 'approve' : 'deny';
    const reply: Reply = { allow, scope: allow ? scope : 'once', by };
    if (!agent.questions.answer(id, reply)) throw new ControlRefusal(`no question ${id} waits`);
    return allow ? { id, scope } : { id };
  };
}

function watch(agent: Agent, records: FileRecords | undefined, client: ControlClient): unknown {
  const onQuestion = (event: QuestionEvent): void => {
    if (event.kind === 'question') {
      client.send('question', { question: toldOf(agent, event.question, event.requests) });
      return;
    }
    const { id, outcome } = event;
    const answered = outcome.kind === 'answered';
    client.send('ended', {
      id,
      outcome: answered ? (outcome.reply.allow ? 'allowed' : 'denied') : 'gone',
      ...(answered ? { by: outcome.reply.by, scope: outcome.reply.scope } : { reason: outcome.reason }),
    });
  };
  const endQuestions = agent.questions.watch(onQuestion);
  const endRecords = records?.onUse((record) => client.send('use', { record }));
  client.onClose(() => {
    endQuestions();
    endRecords?.();
  });
  return { questions: agent.questions.waiting().map(({ question, requests }) => toldOf(agent, question, requests)) };
}

export interface ControlParts {
  readonly agent: Agent;
  readonly records: FileRecords | undefined;
  readonly status: () => unknown;
  /** @throws ControlRefusal with the errors of the file */
  readonly reload: () => Promise<{ readonly rules: number; readonly file: string }>;
  readonly guards: ReadonlyMap<string, ControlCommand>;
}

export function controlCommands(parts: ControlParts): ReadonlyMap<string, ControlCommand> {
  const { agent, records } = parts;
  return new Map<string, ControlCommand>([
    ['status', parts.status],
    ['watch', (_given, client) => watch(agent, records, client)],
    ['approve', answerCommand(agent, true)],
    ['deny', answerCommand(agent, false)],
    [
      'log',
      () => {
        if (records === undefined) throw new ControlRefusal('this agent keeps no records');
        return records.status();
      },
    ],
    [
      'why',
      (given) => {
        const found = records?.recent(textOf(given, 'id'));
        if (found === undefined) throw new ControlRefusal('no such record among the latest');
        return found;
      },
    ],
    ['reload', parts.reload],
    ...parts.guards,
  ]);
}
