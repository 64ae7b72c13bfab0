// npm start: builds, then runs the agent in the foreground. `npm start -- COMMAND ...` runs COMMAND under it;
// words that begin with a dash go to `latchkey agent`.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { join } from 'node:path';
import { build } from './build.mjs';
import { ensureDependencies, root } from './setup.mjs';

ensureDependencies();
await build();
const args = process.argv.slice(2);
const words = args.length > 0 && !args[0].startsWith('-') ? ['agent', '--', ...args] : ['agent', ...args];
// npm changes to the checkout; the command's relative names are meant from where the person is.
const child = spawn(join(root, 'bin/latchkey'), words, {
  stdio: 'inherit',
  cwd: process.env.INIT_CWD ?? process.cwd(),
});

for (const signal of ['SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGCONT', 'SIGWINCH']) {
  // What is typed on a terminal reaches the child by itself: once is enough.
  const typed = process.stdin.isTTY && ['SIGINT', 'SIGQUIT', 'SIGCONT', 'SIGWINCH'].includes(signal);
  process.on(signal, () => typed || child.kill(signal));
}
child.on('error', (error) => {
  console.error(`could not start bin/latchkey: ${error.message}`);
  process.exit(127);
});
child.on('exit', (code, signal) => {
  if (signal === null) process.exit(code ?? 1);
  // Ends as the child ended, so that whoever waits for us sees the same.
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
  setTimeout(() => process.exit(128 + constants.signals[signal]), 1000);
});
