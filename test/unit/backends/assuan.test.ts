import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Assuan } from '../../../src/backends/assuan.ts';
import { askByPinentry, askSecretByPinentry } from '../../../src/backends/pinentry.ts';
import { confirmQuestion } from '../../support/confirm.ts';

const folder = mkdtempSync(join(tmpdir(), 'latchkey-assuan-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let made = 0;
const never = new AbortController().signal;
const env = { PATH: '/usr/bin:/bin', DISPLAY: ':0', LOG: join(folder, 'log') };

/** A program that writes down each line that it reads, and answers it by the shell's `case` branches in `body`. */
function pinentry(body: string, greeting = 'echo OK hello'): string {
  const path = join(folder, `pinentry${made++}`);
  const loop = `while read -r line; do echo "$line" >> "$LOG"; case "$line" in ${body} *) echo OK;; esac; done`;
  writeFileSync(path, `#!/bin/bash\n: > "$LOG"\n${greeting}\n${loop}\n`);
  chmodSync(path, 0o700);
  return path;
}

const told = (): readonly string[] => readFileSync(env.LOG, 'utf8').trimEnd().split('\n');

describe('a conversation in Assuan', () => {
  it.each([
    ['echo OK', { kind: 'ok', data: undefined }],
    ['echo "S STATUS x"; echo "# comment"; echo OK well', { kind: 'ok', data: undefined }],
    ['echo "D a%25b%0Ac"; echo "D d"; echo OK', { kind: 'ok', data: new Uint8Array(Buffer.from('a%b\ncd')) }],
    ['echo "D secret"; echo "ERR 83886179 cancelled"', { kind: 'cancelled' }],
    ['echo "ERR 83886194 not confirmed <Pinentry>"', { kind: 'not-confirmed' }],
    ['echo "ERR 62"', { kind: 'error', code: 62 }],
    ['echo "INQUIRE X"; read -r x; echo "ERR 5 $x"', { kind: 'error', code: 5 }],
  ])('understands `%s`', async (body, outcome) => {
    const assuan = new Assuan(pinentry(`X) ${body};;`), env, never);
    await assuan.greeting();
    expect(await assuan.command('X')).toEqual(outcome);
    assuan.close();
  });

  it.each([
    ['echo nonsense', 'does not speak Assuan'],
    ['exit', 'ended'],
    ['head -c 5000 /dev/zero | tr "\\0" x', 'too long'],
    ['while :; do echo "# x"; done', 'too much'],
  ])('ends where the program does `%s`', async (body, why) => {
    const assuan = new Assuan(pinentry(`X) ${body};;`), env, never);
    await assuan.greeting();
    await expect(assuan.command('X')).rejects.toThrow(why);
  });

  it('ends where the program answers what nobody asked', async () => {
    const assuan = new Assuan(pinentry('X) echo OK; echo OK; echo OK;;'), env, never);
    await assuan.greeting();
    await assuan.command('X');
    await new Promise((resolve) => setTimeout(resolve, 100));
    await expect(assuan.command('X')).rejects.toThrow('an answer to nothing');
  });

  it('cuts a long argument between characters, and escapes what would be a line of its own', async () => {
    const assuan = new Assuan(pinentry(''), env, never);
    await assuan.greeting();
    await assuan.command('SETDESC', `50%\nBYE\r${'é'.repeat(2000)}`);
    await assuan.command('END');
    assuan.close();
    const [line = ''] = told();
    expect(line).toMatch(/^SETDESC 50%25%0ABYE%0Dé+$/);
    expect(Buffer.byteLength(line)).toBeLessThanOrEqual(1000);
    expect(Buffer.byteLength(line)).toBeGreaterThan(990);
  });

  it('cuts a secret at 1023 bytes', async () => {
    const body = `GETPIN) echo "D $(head -c 900 /dev/zero | tr '\\0' x)"; echo "D $(head -c 900 /dev/zero | tr '\\0' y)"; echo OK;;`;
    const secret = await askSecretByPinentry('PIN', env, never, pinentry(body));
    expect(secret).toEqual(new Uint8Array(Buffer.from('x'.repeat(900) + 'y'.repeat(123))));
  });
});

const CANCEL = 'echo "ERR 83886179 x"';
const NOT_CONFIRMED = 'echo "ERR 83886194 x"';

describe('a question by pinentry', () => {
  const ask = (body: string, flavour = 'gtk2'): ReturnType<typeof askByPinentry> =>
    askByPinentry(confirmQuestion, env, never, pinentry(`GETINFO*) echo D ${flavour}; echo OK;; ${body}`));

  it('has three buttons where the program is known for them', async () => {
    expect(await ask('')).toEqual({ allow: true, scope: 'once', by: 'pinentry' });
    expect(told()).toContain('SETNOTOK A_llow until git__rebase (pid 4711) ends');
    expect(await ask('', 'gnome3')).toEqual({ allow: true, scope: 'once', by: 'pinentry' });
    expect(told().some((line) => line.startsWith('SETNOTOK'))).toBe(false);
  });

  it('never takes a failure for a yes, nor a lasting yes without asking again', async () => {
    expect(await ask(`CONFIRM) ${CANCEL};;`)).toMatchObject({ allow: false });
    // As pinentry-tty answers where it has no terminal.
    expect(await ask(`CONFIRM) ${NOT_CONFIRMED};;`)).toMatchObject({ allow: false });
    expect(await ask(`CONFIRM) ${NOT_CONFIRMED};;`, 'gnome3')).toMatchObject({ allow: false });
    expect(await ask('CONFIRM) echo "ERR 83918950 no tty";;')).toBeUndefined();
    const second = `CONFIRM) if [ -z "$n" ]; then n=1; ${NOT_CONFIRMED}; else echo OK; fi;;`;
    expect(await ask(second)).toEqual({ allow: true, scope: 'command', by: 'pinentry' });
  });

  it('is made shorter where the program has no room', async () => {
    const body = 'CONFIRM) if [ -z "$n" ]; then n=1; echo "ERR 83886300 too small"; else echo OK; fi;;';
    expect(await ask(body, 'gtk2:curses')).toEqual({ allow: true, scope: 'once', by: 'pinentry' });
    expect(
      told()
        .filter((line) => line.startsWith('SETDESC'))
        .at(-1),
    ).toBe('SETDESC Use your SSH key?%0Alog in as git on github.com (verified), for git rebase in%0A~/src/x_y & <z>');
  });

  it('is not asked where there is no place for a dialog', async () => {
    const nowhere = askByPinentry(confirmQuestion, { ...env, DISPLAY: '' }, never, pinentry(''));
    await expect(nowhere).rejects.toThrow('no DISPLAY');
    await expect(ask('', 'tty')).rejects.toThrow('no terminal');
  });
});
