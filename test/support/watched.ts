/** A stand-in for an agent's control socket that serves questions: the real server, with answers that the test gives. */
import type { Server } from 'node:net';
import type { WatchQuestion } from '../../src/cli/controlcommands.ts';
import {
  type ControlClient,
  type ControlCommand,
  ControlRefusal,
  createControlServer,
} from '../../src/server/control.ts';

export interface Answered {
  readonly command: 'approve' | 'deny';
  readonly given: Readonly<Record<string, unknown>>;
}

export interface Questions {
  /** The agent's socket: what --socket takes. */
  readonly socket: string;
  readonly answered: readonly Answered[];
  ask(question: WatchQuestion): void;
  /** Ends a question without an answer. */
  withdraw(id: string, reason: string): void;
  send(event: string, content: Readonly<Record<string, unknown>>): void;
  /** Ends as an agent does that is killed. */
  stop(): void;
}

/** @param folder one of the test's own: the socket is `agent.sock` there, its control socket `control.sock` */
export async function serveQuestions(folder: string): Promise<Questions> {
  const clients = new Set<ControlClient>();
  const waiting = new Map<string, WatchQuestion>();
  const answered: Answered[] = [];
  const send = (event: string, content: Readonly<Record<string, unknown>>): void => {
    for (const client of clients) client.send(event, content);
  };
  const answer = (command: 'approve' | 'deny', given: Readonly<Record<string, unknown>>): unknown => {
    answered.push({ command, given });
    const id = String(given.id);
    if (!waiting.delete(id)) throw new ControlRefusal(`no question ${id} waits`);
    const scope = given.scope ?? 'once';
    const outcome = command === 'approve' ? 'allowed' : 'denied';
    send('ended', { id, outcome, by: given.by, ...(command === 'approve' ? { scope } : {}) });
    return command === 'approve' ? { id, scope } : { id };
  };
  const server: Server = createControlServer(
    new Map<string, ControlCommand>([
      [
        'watch',
        (_given, client) => {
          clients.add(client);
          client.onClose(() => clients.delete(client));
          return { questions: [...waiting.values()] };
        },
      ],
      ['approve', (given) => answer('approve', given)],
      ['deny', (given) => answer('deny', given)],
    ]),
  );
  const sockets = new Set<{ destroy(): void }>();
  server.on('connection', (socket) => sockets.add(socket));
  await new Promise<void>((done) => server.listen(`${folder}/control.sock`, done));
  return {
    socket: `${folder}/agent.sock`,
    answered,
    ask: (question) => {
      waiting.set(question.id, question);
      send('question', { question });
    },
    withdraw: (id, reason) => {
      waiting.delete(id);
      send('ended', { id, outcome: 'gone', reason });
    },
    send,
    stop: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

export const localQuestion: WatchQuestion = {
  id: 'q1',
  sentence: 'sign a git commit (namespace git), for git rebase in ~/src/latchkey',
  verified: ['program /usr/bin/ssh-keygen, pid 4712', 'started by /usr/bin/git, pid 4711'],
  claimed: ['command line: git rebase -i main'],
  key: { fingerprint: 'SHA256:2Z0u2xL3sYhXb0Jj2qk1gYw8pWcVn4Q0m5r9T7eKf1c', comment: 'carl@laptop' },
  forwarded: false,
  offers: [
    { scope: 'once', text: 'this once' },
    { scope: 'command', text: 'until git rebase (pid 4711) ends' },
  ],
  lasts: 'once',
  rule: undefined,
  secondsLeft: 90,
  requests: 3,
};

export const forwardedQuestion: WatchQuestion = {
  ...localQuestion,
  id: 'q2',
  sentence: 'via bastion (verified): log in as root on db1.example.org (verified)',
  verified: [
    'host key of db1.example.org SHA256:uNiVztksCsDhcc0u9e8BrOXVBpSDwQFvzZ2iLbFyw3E',
    'host key of bastion SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8',
    'program /usr/bin/ssh, pid 4820',
  ],
  claimed: ['command line: ssh -A bastion'],
  forwarded: true,
  offers: [
    { scope: 'once', text: 'this once' },
    { scope: 'destination', text: 'root on db1.example.org for 15 min' },
    { scope: 'path', text: 'root on db1.example.org by this way for 8 h' },
    { scope: 'always', text: 'always, by a rule' },
  ],
  rule: '[[rule]]\nname = "root on db1 via bastion"\neffect = "allow"\nhost = ["db1.example.org"]\nuser = ["root"]\nvia = ["bastion"]\n',
  requests: 1,
};
