import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { askConfirm, askpassProgram, askpassUse, askSecret } from '../../../src/backends/askpass.ts';

const folder = mkdtempSync(join(tmpdir(), 'latchkey-askpass-'));
let made = 0;

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** An environment whose askpass is a shell script with `body`. */
function program(body: string, more: Readonly<Record<string, string>> = {}): Record<string, string> {
  const path = join(folder, `askpass${made++}`);
  writeFileSync(path, `#!/bin/sh\n${body}\n`);
  chmodSync(path, 0o700);
  return { PATH: '/usr/bin:/bin', SSH_ASKPASS: path, DISPLAY: ':0', ...more };
}

function text(bytes: Uint8Array | undefined): string | undefined {
  return bytes === undefined ? undefined : Buffer.from(bytes).toString();
}

describe('whether an askpass program is used', () => {
  it.each([
    [{}, 'never'],
    [{ DISPLAY: '' }, 'never'],
    [{ DISPLAY: ':0' }, 'instead'],
    [{ WAYLAND_DISPLAY: 'wayland-0' }, 'instead'],
    [{ DISPLAY: '', WAYLAND_DISPLAY: 'wayland-0' }, 'instead'],
    [{ SSH_ASKPASS_REQUIRE: 'force' }, 'always'],
    [{ SSH_ASKPASS_REQUIRE: 'FORCE' }, 'always'],
    [{ SSH_ASKPASS_REQUIRE: 'prefer' }, 'never'],
    [{ SSH_ASKPASS_REQUIRE: 'Prefer', DISPLAY: ':0' }, 'always'],
    [{ SSH_ASKPASS_REQUIRE: 'never', DISPLAY: ':0' }, 'never'],
    [{ SSH_ASKPASS_REQUIRE: 'nonsense', DISPLAY: ':0' }, 'instead'],
  ])('with %j: %s', (env, use) => {
    expect(askpassUse(env as Record<string, string>)).toBe(use);
  });

  it('is the one that is named, even by an empty name', () => {
    expect(askpassProgram({ SSH_ASKPASS: '/x/y' })).toBe('/x/y');
    expect(askpassProgram({ SSH_ASKPASS: '' })).toBe('');
    expect(askpassProgram({})).toMatch(/ssh-askpass$/);
  });
});

describe('a secret', () => {
  it.each([
    ['printf secret', 'secret'],
    ['echo secret', 'secret'],
    ['printf "secret\\r\\nmore"', 'secret'],
    ['printf "sec"; sleep 0.05; echo "ret"', 'secret'],
    ['printf ""', ''],
    ['echo; echo secret', ''],
    ['printf %05000d 0', '0'.repeat(1023)],
  ])('of the program `%s`', async (body, answer) => {
    expect(text(await askSecret('prompt', program(body)))).toBe(answer);
  });

  it('has the prompt as its only argument, and no hint', async () => {
    const env = program('printf "%s|%s|" "$#" "$1"; printenv SSH_ASKPASS_PROMPT || printf unset');
    expect(text(await askSecret('Enter it (now): ', env))).toBe('1|Enter it (now): |unset');
  });

  it('is none where the program fails, is killed or may not be used', async () => {
    expect(await askSecret('prompt', program('echo secret; exit 1'))).toBeUndefined();
    expect(await askSecret('prompt', program('echo secret; kill -9 $$'))).toBeUndefined();
    expect(await askSecret('prompt', program('echo secret', { DISPLAY: '' }))).toBeUndefined();
  });

  it('is none where there is no program, which is reported once', async () => {
    const lines: string[] = [];
    const env = { SSH_ASKPASS: join(folder, 'missing'), DISPLAY: ':0' };
    expect(await askSecret('prompt', env, undefined, (line) => lines.push(line))).toBeUndefined();
    expect(
      await askSecret('prompt', { ...env, SSH_ASKPASS: '' }, undefined, (line) => lines.push(line)),
    ).toBeUndefined();
    expect(
      await askSecret('prompt', { ...env, SSH_ASKPASS: folder }, undefined, (line) => lines.push(line)),
    ).toBeUndefined();
    expect(lines).toEqual([
      `ssh_askpass: exec(${join(folder, 'missing')}): No such file or directory`,
      'ssh_askpass: exec(): No such file or directory',
      `ssh_askpass: exec(${folder}): Permission denied`,
    ]);
  });
});

describe('a confirmation', () => {
  it.each([
    ['exit 0', true],
    ['echo', true],
    ['echo yes', true],
    ['echo YES', true],
    ['printf Yes', true],
    ['echo y', false],
    ['echo no', false],
    ['echo "yes, please"', false],
    ['exit 1', false],
    ['echo yes; exit 1', false],
  ])('of the program `%s` is %s', async (body, answer) => {
    expect(await askConfirm('prompt', program(body))).toBe(answer);
  });

  it('tells the program that it is one', async () => {
    expect(await askConfirm('prompt', program('[ "$SSH_ASKPASS_PROMPT" = confirm ]'))).toBe(true);
  });

  it.each([
    [
      'a program that is not there',
      { SSH_ASKPASS: join(folder, 'missing'), DISPLAY: ':0' },
      /^exec\(.*\): No such file/,
    ],
    ['no display', { SSH_ASKPASS: '/bin/true', DISPLAY: '' }, /^no DISPLAY/],
    ['never', { SSH_ASKPASS: '/bin/true', DISPLAY: ':0', SSH_ASKPASS_REQUIRE: 'never' }, /^no DISPLAY/],
  ])('reaches nobody with %s, and says why', async (_, env, why) => {
    const lines: string[] = [];
    expect(await askConfirm('prompt', env, undefined, (line) => lines.push(line))).toBeUndefined();
    expect(lines).toEqual([expect.stringMatching(why)]);
  });

  it.each([
    ['exit 127', /exit code 127$/],
    ['kill -9 $$', /ended by SIGKILL$/],
  ])('reaches nobody where the program breaks down: `%s`', async (body, why) => {
    const lines: string[] = [];
    expect(await askConfirm('prompt', program(body), undefined, (line) => lines.push(line))).toBeUndefined();
    expect(lines).toEqual([expect.stringMatching(why)]);
  });

  it('has its prompt cut at 1023 bytes, between two characters, and cannot be broken by a NUL', async () => {
    expect(await askConfirm('é'.repeat(1000), program('[ "$(printf %s "$1" | wc -c)" = 1022 ]'))).toBe(true);
    expect(await askConfirm('a\0b', program('[ "$1" = "a\\\\x00b" ]'))).toBe(true);
  });

  it('is over as soon as it is given up, and the program is ended with all that it started', async () => {
    const controller = new AbortController();
    const pids = join(folder, 'pids');
    const asked = askConfirm('prompt', program(`(sleep 60 & echo $! > ${pids}; wait)\nexit 1`), controller.signal);
    await until(() => readFileSync(pids, 'utf8').endsWith('\n'));
    controller.abort();
    expect(await asked).toBeUndefined();
    const pid = readFileSync(pids, 'utf8').trim();
    await until(() => !existsSync(`/proc/${pid}`) || / Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8')));
    expect(await askConfirm('prompt', program('exit 0'), AbortSignal.abort())).toBeUndefined();
  });

  it('ends a program that will not go', async () => {
    const controller = new AbortController();
    const pids = join(folder, 'stubborn');
    const asked = askConfirm(
      'prompt',
      program(`trap '' TERM\necho $$ > ${pids}\nwhile :; do sleep 0.1; done`),
      controller.signal,
    );
    await until(() => readFileSync(pids, 'utf8').endsWith('\n'));
    controller.abort();
    expect(await asked).toBeUndefined();
    const pid = readFileSync(pids, 'utf8').trim();
    await until(() => !existsSync(`/proc/${pid}`));
  });
});

async function until(isSo: () => boolean): Promise<void> {
  for (;;) {
    try {
      if (isSo()) return;
    } catch {
      // Not there yet.
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
