/**
 * Makes the pictures of docs/pictures: `latchkey watch` on a terminal of 80 and of 40 columns, and pinentry's and askpass's
 * dialogs on a display of their own. Needs tmux, xvfb, imagemagick, pinentry-gtk2, ssh-askpass-gnome and fonts-dejavu-core.
 * Run by scripts/pictures.mjs. Arguments: where to, the bundle of fixtures/watching.ts, that of fixtures/asking.ts.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { terminalPicture } from './terminalpicture.ts';
import { openScreen } from './tmux.ts';
import { forwardedQuestion, localQuestion, serveQuestions } from './watched.ts';

const [target = '.', watching = '', asking = ''] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), 'latchkey-pictures-'));
const rest = (milliseconds: number): Promise<void> => new Promise((done) => setTimeout(done, milliseconds));

const uses = [
  ['09:41:07', 'allowed', 'log in as git on github.com (verified), for git push in ~/src/latchkey'],
  ['09:41:52', 'denied', 'via web1 (verified): unidentified bytes', 'nobody signs what it cannot read'],
  ['09:43:30', 'allowed', 'sudo apt upgrade on web1 (host verified, command claimed)', undefined, 'watch'],
] as const;

async function pictureOfWatch(columns: number, rows: number): Promise<void> {
  const place = mkdtempSync(join(folder, 'agent-'));
  const questions = await serveQuestions(place);
  const env = { NODE_PATH: process.env.NODE_PATH ?? '' };
  const argv = [process.execPath, watching, 'watch', '--socket', questions.socket];
  const screen = openScreen(place, argv, { columns, rows, env });
  try {
    await screen.shows('Nothing waits');
    for (const [time, outcome, sentence, reason, by] of uses) {
      const answer = by === undefined ? undefined : { by, scope: 'once', seconds: 3 };
      const date = new Date(`2026-03-02T${time}`).toISOString();
      questions.send('use', { record: { time: date, kind: 'sign', outcome, sentence, reason, answer } });
    }
    questions.ask(forwardedQuestion);
    questions.ask(localQuestion);
    await screen.shows('1 of 2');
    writeFileSync(join(target, `watch-${columns}.svg`), terminalPicture(screen.coloured(), columns));
  } finally {
    screen.close();
    questions.stop();
  }
}

/** A display that nobody looks at. */
async function startDisplay(): Promise<{ readonly name: string; readonly child: ChildProcess }> {
  const child = spawn('Xvfb', ['-displayfd', '1', '-screen', '0', '1000x640x24'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const number = await new Promise<string>((resolve, reject) => {
    createInterface(child.stdout).once('line', resolve);
    child.once('error', reject);
  });
  return { name: `:${number}`, child };
}

async function pictureOfDialog(
  display: string,
  name: string,
  way: string,
  more: Readonly<Record<string, string>>,
): Promise<void> {
  const env = {
    PATH: '/usr/bin:/bin',
    HOME: folder,
    LC_ALL: 'C.UTF-8',
    DISPLAY: display,
    GTK_THEME: 'Adwaita',
    ...more,
  };
  const { sentence, verified, claimed, forwarded, offers } = forwardedQuestion;
  const question = JSON.stringify({ sentence, verified, claimed, forwarded, offers });
  const child = spawn(process.execPath, [asking, way, '4000', question], { env, stdio: 'ignore' });
  const ended = new Promise((done) => child.once('exit', done));
  try {
    await rest(2500);
    const whole = join(folder, 'whole.png');
    const border = ['-bordercolor', '#3b4252', '-border', '16'];
    for (const [program, ...args] of [
      ['import', '-display', display, '-window', 'root', whole],
      ['convert', whole, '-trim', '+repage', ...border, '-strip', join(target, `${name}.png`)],
    ] as const) {
      const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' });
      if (status !== 0) throw new Error(stderr);
    }
  } finally {
    await ended;
  }
}

try {
  await pictureOfWatch(80, 24);
  await pictureOfWatch(40, 40);
  const { name, child } = await startDisplay();
  try {
    await pictureOfDialog(name, 'pinentry', 'pinentry', { LATCHKEY_PINENTRY: '/usr/bin/pinentry-gtk-2' });
    await pictureOfDialog(name, 'askpass', 'askpass', { SSH_ASKPASS: '/usr/lib/openssh/gnome-ssh-askpass' });
  } finally {
    child.kill();
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
