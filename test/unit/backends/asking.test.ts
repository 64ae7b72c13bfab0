import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createAsking, defaultWays } from '../../../src/backends/asking.ts';
import { confirmQuestion } from '../../support/confirm.ts';

const folder = mkdtempSync(join(tmpdir(), 'latchkey-asking-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let made = 0;
function script(body: string): string {
  const path = join(folder, `script${made++}`);
  writeFileSync(path, `#!/bin/sh\n${body}\n`);
  chmodSync(path, 0o700);
  return path;
}

const env = { PATH: '/usr/bin:/bin', SSH_ASKPASS_REQUIRE: 'force' };
const never = new AbortController().signal;
const log = (): void => {};

describe('the ways that are used where nobody chose', () => {
  const installed = { PATH: folder, LATCHKEY_PINENTRY: '/bin/true' };

  it.each([
    [{}, []],
    [{ SSH_ASKPASS: '/bin/true' }, []],
    [{ SSH_ASKPASS: '/bin/true', DISPLAY: ':0' }, ['askpass']],
    [{ SSH_ASKPASS: '/bin/true', SSH_ASKPASS_REQUIRE: 'force' }, ['askpass']],
    [
      { SSH_ASKPASS: '/bin/true', DISPLAY: ':0', DBUS_SESSION_BUS_ADDRESS: 'unix:path=/x' },
      ['askpass', 'notification'],
    ],
    [{ DISPLAY: ':0' }, ['pinentry']],
    [{ WAYLAND_DISPLAY: 'wayland-0' }, ['pinentry']],
    [{ GPG_TTY: '/dev/pts/1' }, ['pinentry']],
    [{ SSH_ASKPASS: '/bin/true', GPG_TTY: '/dev/pts/1' }, ['pinentry']],
    [{ DBUS_SESSION_BUS_ADDRESS: 'unix:path=/x' }, ['notification']],
  ])('with %j: %j', (more, ways) => {
    expect(defaultWays({ ...installed, ...more })).toEqual(ways);
  });

  it('leave pinentry out where it is not installed', () => {
    expect(defaultWays({ PATH: folder, GPG_TTY: '/dev/pts/1' })).toEqual([]);
  });
});

describe('asking', () => {
  it('says OpenSSH words first, then the sentence, and what a yes means where it means more', async () => {
    const words = join(folder, 'words');
    const SSH_ASKPASS = script(`printf %s "$1" > ${words}`);
    const asking = createAsking({ ways: ['askpass'], env: { ...env, SSH_ASKPASS }, log });
    expect(await asking.confirm(confirmQuestion, never)).toEqual({ allow: true, scope: 'once', by: 'askpass' });
    const { opensshText, sentence } = confirmQuestion;
    expect(readFileSync(words, 'utf8')).toBe(`${opensshText}\n\n${sentence}`);
    expect(await asking.confirm({ ...confirmQuestion, lasts: 'command' }, never)).toMatchObject({ scope: 'command' });
    expect(readFileSync(words, 'utf8')).toBe(
      `${opensshText}\n\n${sentence}\nYes allows it until git_rebase (pid 4711) ends.`,
    );
  });

  it('says nothing but OpenSSH words where it is to be plain', async () => {
    const words = join(folder, 'plain');
    const SSH_ASKPASS = script(`printf %s "$1" > ${words}`);
    const asking = createAsking({ ways: ['askpass'], env: { ...env, SSH_ASKPASS }, log, plain: true });
    await asking.confirm(confirmQuestion, never);
    expect(readFileSync(words, 'utf8')).toBe(confirmQuestion.opensshText);
  });

  it('lets no text of others out of its line', async () => {
    const words = join(folder, 'safe');
    const SSH_ASKPASS = script(`printf %s "$1" > ${words}`);
    const asking = createAsking({ ways: ['askpass'], env: { ...env, SSH_ASKPASS }, log });
    await asking.confirm({ ...confirmQuestion, sentence: 'log in\n\u202e\x1b[2Jyes' }, never);
    expect(readFileSync(words, 'utf8').split('\n').at(-1)).toBe('log in \\u{202e}\\x1b[2Jyes');
  });

  it('takes a refusal, and nobody where no way reaches anybody', async () => {
    const refusing = createAsking({ ways: ['askpass'], env: { ...env, SSH_ASKPASS: script('exit 1') }, log });
    expect(await refusing.confirm(confirmQuestion, never)).toEqual({ allow: false, scope: 'once', by: 'askpass' });
    expect(await createAsking({ ways: [], env, log }).confirm(confirmQuestion, never)).toBeUndefined();
    const lines: string[] = [];
    const nobody = createAsking({
      ways: ['askpass', 'pinentry', 'notification'],
      env: { ...env, SSH_ASKPASS: '/missing', LATCHKEY_PINENTRY: '/missing', DISPLAY: ':0' },
      log: (_level, text) => lines.push(text),
    });
    expect(await nobody.confirm(confirmQuestion, never)).toBeUndefined();
    expect(lines.toSorted()).toEqual([
      'q7: nobody is reached by askpass: exec(/missing): No such file or directory',
      'q7: nobody is reached by notification: no DBUS_SESSION_BUS_ADDRESS',
      'q7: nobody is reached by pinentry: exec(/missing): ENOENT',
    ]);
    expect(nobody.status()).toContainEqual({
      way: 'pinentry',
      program: '/missing',
      trouble: 'exec(/missing): ENOENT',
    });
  });

  it('shows one dialog at a time, and those of this machine before those from afar', async () => {
    const order = join(folder, 'order');
    const go = join(folder, 'go');
    const SSH_ASKPASS = script(`echo "$1" | head -1 >> ${order}; while [ ! -e ${go} ]; do sleep 0.02; done`);
    const asking = createAsking({ ways: ['askpass'], env: { ...env, SSH_ASKPASS }, log });
    const ask = (opensshText: string, forwarded: boolean, signal = never): Promise<unknown> =>
      asking.confirm({ ...confirmQuestion, opensshText, forwarded }, signal);
    const withdrawn = new AbortController();
    const all = [ask('first', true), ask('afar', true), ask('gone', false, withdrawn.signal), ask('here', false)];
    while (!existsSync(order)) await new Promise((resolve) => setTimeout(resolve, 10));
    withdrawn.abort();
    writeFileSync(go, '');
    const yes = { allow: true, scope: 'once', by: 'askpass' };
    expect(await Promise.all(all)).toEqual([yes, yes, undefined, yes]);
    expect(readFileSync(order, 'utf8')).toBe('first\nhere\nafar\n');
  });
});
