/** Questions to a person by real programs: pinentry on a terminal, a session bus with a server of notifications, askpass scripts. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { build } from 'esbuild';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Reply } from '../../src/agent/ports.ts';
import { createAsking, type WayName } from '../../src/backends/asking.ts';
import { confirmQuestion } from '../support/confirm.ts';
import { runOnTerminal, type TerminalOutcome } from './ssh-add-programs.ts';

const folder = mkdtempSync(join(tmpdir(), 'latchkey-asking-'));
const program = join(folder, 'asking.mjs');
const env = { PATH: '/usr/bin:/bin', HOME: folder, LC_ALL: 'C.UTF-8', TERM: 'xterm' };

beforeAll(() =>
  build({
    entryPoints: [join(import.meta.dirname, 'fixtures/asking.ts')],
    bundle: true,
    platform: 'node',
    format: 'esm',
    outfile: program,
    logLevel: 'error',
  }),
);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Descriptors of this process that are open on pipes and sockets. */
function openPipes(): number {
  return readdirSync('/proc/self/fd').length;
}

describe('pinentry on a terminal', () => {
  const ask = (
    ways: string,
    steps: readonly (readonly [string, string])[],
    more = {},
    wait = '60000',
  ): TerminalOutcome =>
    runOnTerminal(['/bin/sh', '-c', 'GPG_TTY=$(tty) exec "$@"', 'sh', process.execPath, program, ways, wait], steps, {
      cwd: folder,
      env: { ...env, LATCHKEY_PINENTRY: '/usr/bin/pinentry-tty', ...more },
    });
  const replyOf = ({ output }: TerminalOutcome): unknown => JSON.parse(/reply: (.*)$/m.exec(output)?.[1] ?? 'null');

  it('shows the sentence, what is verified and what is claimed, and takes a yes', () => {
    const outcome = ask('pinentry', [[']? ', 'a']]);
    expect(replyOf(outcome)).toEqual({ allow: true, scope: 'once', by: 'pinentry' });
    expect(outcome.output).toContain('log in as git on github.com (verified), for git rebase in ~/src/x_y & <z>\n');
    expect(outcome.output).toContain(
      'Verified: program /usr/bin/ssh, pid 4712\nClaimed: command line: git rebase -i 100%\n',
    );
    expect(outcome.output).toContain('Key: carl@laptop, SHA256:2Z0u2xL3sYhXb0Jj2qk1gYw8pWcVn4Q0m5r9T7eKf1c\n');
    expect(outcome.output).toMatch(/git_rebase/);
    expect(outcome.echo_after).toBe(true);
  });

  it('takes a no', () => {
    expect(replyOf(ask('pinentry', [[']? ', 'r']]))).toEqual({ allow: false, scope: 'once', by: 'pinentry' });
  });

  it('asks once more before a yes that lasts', () => {
    const lasting = ask('pinentry', [
      ['[arl]? ', 'l'],
      ['Allow until git_rebase (pid 4711) ends?', ''],
      ['[ar]? ', 'a'],
    ]);
    expect(replyOf(lasting)).toEqual({ allow: true, scope: 'command', by: 'pinentry' });
    const refused = ask('pinentry', [
      ['[arl]? ', 'l'],
      ['[ar]? ', 'r'],
    ]);
    expect(replyOf(refused)).toEqual({ allow: false, scope: 'once', by: 'pinentry' });
  });

  it.each([
    ['/usr/bin/pinentry-tty', '[arl]? '],
    ['/usr/bin/pinentry-curses', '<Refuse>'],
  ])('%s is ended when the question is over, and leaves the terminal as it was', (path, shown) => {
    const outcome = ask('pinentry', [[shown, '']], { LATCHKEY_PINENTRY: path }, '1500');
    expect(replyOf(outcome)).toEqual([{ way: 'pinentry', program: path }]);
    expect(outcome).toMatchObject({ status: 0, echo_after: true });
  });

  it('gives a PIN, which is not echoed', () => {
    const outcome = ask('secret', [['PIN', 'Grüße 100%\n']]);
    expect(replyOf(outcome)).toEqual([...Buffer.from('Grüße 100%')]);
    expect(outcome.output).toContain('PIN of the token (50%) "Größe"');
    expect(outcome.output).not.toContain('Grüße');
  });

  it('reaches nobody where there is no such program, or no terminal', () => {
    expect(replyOf(ask('pinentry', [], { LATCHKEY_PINENTRY: join(folder, 'missing') }))).toEqual([
      { way: 'pinentry', program: join(folder, 'missing'), trouble: expect.stringContaining('ENOENT') },
    ]);
    const nowhere = runOnTerminal([process.execPath, program, 'pinentry'], [], {
      cwd: folder,
      env: { ...env, GPG_TTY: join(folder, 'missing'), LATCHKEY_PINENTRY: '/usr/bin/pinentry-tty' },
    });
    expect(replyOf(nowhere)).toMatchObject([{ way: 'pinentry', trouble: 'no DISPLAY, and no terminal in GPG_TTY' }]);
  });
});

/** A session bus of the test's own, where nothing is started on demand. */
async function startBus(): Promise<{ readonly address: string; stop(): void }> {
  const socket = join(folder, `bus-${Math.random().toString(36).slice(2)}`);
  const configuration = `${socket}.conf`;
  writeFileSync(
    configuration,
    `<busconfig><type>session</type><listen>unix:path=${socket}</listen><auth>EXTERNAL</auth><policy context="default">
     <allow send_destination="*"/><allow receive_type="signal"/><allow receive_requested_reply="true"/><allow own="*"/></policy></busconfig>`,
  );
  const bus = spawn('dbus-daemon', [`--config-file=${configuration}`, '--nofork', '--print-address=1'], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const address = await new Promise<string>((resolve, reject) => {
    createInterface(bus.stdout).once('line', resolve);
    bus.once('exit', () => reject(new Error('no bus')));
  });
  return { address, stop: () => bus.kill('SIGKILL') };
}

interface Server {
  /** The next thing it was told that has `name`. */
  told(name: string): Promise<Record<string, unknown>>;
  order(what: Readonly<Record<string, unknown>>): void;
  readonly process: ChildProcess;
}

const children: ChildProcess[] = [];

async function startServer(address: string, capabilities: readonly string[]): Promise<Server> {
  const child = spawn('/usr/bin/python3', [join(import.meta.dirname, 'fixtures/notifications.py')], {
    env: { ...env, DBUS_SESSION_BUS_ADDRESS: address },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  children.push(child);
  const lines: Record<string, unknown>[] = [];
  let look = (): void => {};
  createInterface(child.stdout).on('line', (text) => {
    lines.push(JSON.parse(text));
    look();
  });
  const told = (name: string): Promise<Record<string, unknown>> =>
    new Promise((resolve) => {
      look = () => {
        const at = lines.findIndex((line) => name in line);
        if (at >= 0) resolve(lines.splice(at, 1)[0] as Record<string, unknown>);
      };
      look();
    });
  const order = (what: Readonly<Record<string, unknown>>): void => {
    child.stdin.write(`${JSON.stringify(what)}\n`);
  };
  order({ capabilities });
  await told('ready');
  return { told, order, process: child };
}

describe('a desktop notification', () => {
  let bus: Awaited<ReturnType<typeof startBus>>;
  beforeAll(async () => {
    bus = await startBus();
  });
  afterAll(() => bus.stop());
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });

  const ask = (
    signal = new AbortController().signal,
    address = bus.address,
  ): { reply: Promise<Reply | undefined>; trouble(): string | undefined } => {
    const asking = createAsking({
      ways: ['notification'],
      env: { DBUS_SESSION_BUS_ADDRESS: address },
      log: () => {},
    });
    return { reply: asking.confirm(confirmQuestion, signal), trouble: () => asking.status()[0]?.trouble };
  };

  it('has the sentence with its markup escaped, and buttons', async () => {
    const server = await startServer(bus.address, ['actions', 'body', 'body-markup']);
    const { reply } = ask();
    expect(await server.told('notify')).toEqual({
      notify: 1,
      app: 'Latchkey',
      summary: 'Use your SSH key?',
      body: expect.stringMatching(
        /^log in as git .* in ~\/src\/x_y &amp; &lt;z&gt;\nVerified: host key SHA256:.*\nKey: carl@laptop, /s,
      ),
      actions: ['once', 'Allow once', 'refuse', 'Refuse', 'command', 'Allow until git_rebase (pid 4711) ends'],
      urgency: 2,
      timeout: 0,
    });
    server.order({ press: 'command' });
    expect(await reply).toEqual({ allow: true, scope: 'command', by: 'notification' });
    expect(await server.told('close')).toEqual({ close: 1 });
  });

  it.each([
    ['once', { allow: true, scope: 'once', by: 'notification' }],
    ['refuse', { allow: false, scope: 'once', by: 'notification' }],
  ])('takes the button %s', async (key, expected) => {
    const server = await startServer(bus.address, ['actions', 'body']);
    const { reply } = ask();
    expect((await server.told('notify')).body).toContain('& ‹z›');
    server.order({ press: key });
    expect(await reply).toEqual(expected);
  });

  it('is no answer when it is dismissed, or a button is pressed that it does not have', async () => {
    const server = await startServer(bus.address, ['actions']);
    const { reply } = ask();
    await server.told('notify');
    server.order({ press: 'always' });
    expect(await reply).toBeUndefined();
    const again = ask();
    await server.told('notify');
    server.order({ dismiss: true });
    expect(await again.reply).toBeUndefined();
  });

  it('believes nobody but the server', async () => {
    const server = await startServer(bus.address, ['actions']);
    const { reply } = ask();
    await server.told('notify');
    server.order({ forge: 'once' });
    await server.told('forged');
    server.order({ press: 'refuse' });
    expect(await reply).toMatchObject({ allow: false });
  });

  it('is closed when the question is over', async () => {
    const server = await startServer(bus.address, ['actions']);
    const over = new AbortController();
    const { reply } = ask(over.signal);
    await server.told('notify');
    over.abort();
    expect(await reply).toBeUndefined();
    expect(await server.told('close')).toEqual({ close: 1 });
  });

  it('reaches nobody without a server, without buttons, and when the server ends', async () => {
    // A bus that never had a server: the other one may not have noticed yet that the last test's is gone.
    const quiet = await startBus();
    const nobody = ask(undefined, quiet.address);
    expect(await nobody.reply).toBeUndefined();
    expect(nobody.trouble()).toBe('org.freedesktop.DBus.Error.ServiceUnknown');
    quiet.stop();
    const plain = await startServer(bus.address, ['body']);
    const mute = ask();
    expect(await mute.reply).toBeUndefined();
    expect(mute.trouble()).toBe('the notification server has no buttons');
    plain.order({ quit: true });
    await new Promise((resolve) => plain.process.once('exit', resolve));
    const server = await startServer(bus.address, ['actions']);
    const { reply, trouble } = ask();
    await server.told('notify');
    server.process.kill('SIGKILL');
    expect(await reply).toBeUndefined();
    // The bus may answer for it before it tells that the server is gone.
    expect(trouble()).toMatch(/^the notification server has ended$|NoReply$/);
  });

  it('is one of several ways: the first answer closes the others, and no descriptor or process is left', async () => {
    const server = await startServer(bus.address, ['actions']);
    const script = join(folder, 'askpass');
    // As scripts do: the dialog is a child, and its parent waits for it.
    writeFileSync(script, `#!/bin/sh\nsleep 600 &\necho $! > ${folder}/dialog\nwait\nexit 1\n`);
    chmodSync(script, 0o700);
    const before = openPipes();
    const asking = createAsking({
      ways: ['askpass', 'pinentry', 'notification'] satisfies WayName[],
      env: {
        ...env,
        DBUS_SESSION_BUS_ADDRESS: bus.address,
        SSH_ASKPASS: script,
        SSH_ASKPASS_REQUIRE: 'force',
        LATCHKEY_PINENTRY: join(folder, 'missing'),
      },
      log: () => {},
    });
    const reply = asking.confirm(confirmQuestion, new AbortController().signal);
    await server.told('notify');
    await until(() => readFileSync(join(folder, 'dialog'), 'utf8').trim() !== '');
    const dialog = Number(readFileSync(join(folder, 'dialog'), 'utf8'));
    server.order({ press: 'once' });
    expect(await reply).toMatchObject({ allow: true, by: 'notification' });
    await until(() => !isRunning(dialog));
    await until(() => openPipes() <= before);
  });
});

function isRunning(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

async function until(isSo: () => boolean): Promise<void> {
  for (let i = 0; i < 400; i++) {
    try {
      if (isSo()) return;
    } catch {
      // Not there yet.
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error('it never came to be so');
}
