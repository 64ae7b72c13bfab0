/** A question as the engine puts it, for tests of what asks it. */
import type { Question } from '../../src/agent/ports.ts';

export const confirmQuestion: Question = {
  id: 'q7',
  opensshText: 'Allow use of key carl@laptop?\nKey fingerprint SHA256:2Z0u2xL3sYhXb0Jj2qk1gYw8pWcVn4Q0m5r9T7eKf1c.',
  sentence: 'log in as git on github.com (verified), for git rebase in ~/src/x_y & <z>',
  verified: ['host key SHA256:uNiVztksCsDhcc0u9e8BrOXVBpSDwQFvzZ2iLbFyw3E', 'program /usr/bin/ssh, pid 4712'],
  claimed: ['command line: git rebase -i 100%'],
  key: { fingerprint: 'SHA256:2Z0u2xL3sYhXb0Jj2qk1gYw8pWcVn4Q0m5r9T7eKf1c', comment: 'carl@laptop' },
  forwarded: false,
  offers: [
    { scope: 'once', text: 'this once' },
    { scope: 'command', text: 'until git_rebase (pid 4711) ends' },
    { scope: 'always', text: 'always, by a rule' },
  ],
  lasts: 'once',
  rule: '[[rule]]\n',
  endsAt: 90_000,
};
