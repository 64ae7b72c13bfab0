/** Our ssh-add on a real terminal: prompts, echo, signals, job control. */
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { env, folder, keygen, makeFiles, removeFolder } from './ssh-add-files.ts';
import { type Agent, buildSshAdd, REFERENCE, runOnTerminal, startAgent } from './ssh-add-programs.ts';

let agent: Agent | undefined;
let ours: readonly string[] = [];

beforeAll(async () => {
  makeFiles();
  ours = await buildSshAdd(join(folder, 'bundle'));
  agent = startAgent(folder, 'agent', env);
});

afterAll(() => {
  agent?.stop();
  removeFolder();
});

describe('on a terminal', () => {
  const options = (): { cwd: string; env: Record<string, string> } => ({
    cwd: folder,
    env: { ...env, SSH_AUTH_SOCK: agent?.socket ?? '' },
  });

  it('asks without echo, again after a wrong passphrase, and leaves echo on', () => {
    const steps = [
      ['Enter passphrase for enc: ', 'wrong\n'],
      ['Bad passphrase, try again for enc: ', 'secret\n'],
    ] as const;
    const outcome = runOnTerminal([...ours, 'enc'], steps, options());
    expect(outcome).toEqual({ ...runOnTerminal([...REFERENCE, 'enc'], steps, options()), echo_after: true });
    expect(outcome).toMatchObject({ status: 0, echo: [false, false] });
    expect(outcome.output).not.toContain('secret');
  });

  it('asks the terminal while standard input is a pipe', () => {
    const command = ['/bin/sh', '-c', 'echo piped | "$@"', 'sh', ...ours, 'enc'];
    const outcome = runOnTerminal(command, [['Enter passphrase for enc: ', 'secret\n']], options());
    expect(outcome).toMatchObject({ status: 0, echo: [false], echo_after: true });
    expect(outcome.output).toContain('Identity added: enc (enc comment)');
  });

  it('lets the person correct what was typed', () => {
    const typed = 'nonsense\x15secrex\x7ft\n';
    expect(runOnTerminal([...ours, 'enc'], [['enc: ', typed]], options())).toMatchObject({ status: 0 });
  });

  it('takes no more than 1023 bytes, and text of any language', () => {
    const passphrase = 'Пароль 鍵 🔑';
    keygen('-t', 'ed25519', '-N', passphrase, '-C', 'foreign', '-f', 'foreign');
    const steps = [
      ['foreign: ', `${'x'.repeat(2000)}\n`],
      ['again for foreign: ', `${passphrase}\n`],
    ] as const;
    expect(runOnTerminal([...ours, 'foreign'], steps, options())).toMatchObject({ status: 0 });
  });

  it('gives up at an empty answer', () => {
    const outcome = runOnTerminal([...ours, 'enc'], [['enc: ', '\n']], options());
    expect(outcome).toMatchObject({ status: 1, output: 'Enter passphrase for enc: \n', echo_after: true });
  });

  it.each([
    ['Ctrl-C', '\x03', 2],
    ['Ctrl-\\', '\x1c', 3],
    ['SIGTERM', 'signal:SIGTERM', 15],
    ['SIGHUP', 'signal:SIGHUP', 1],
  ])('ends with the signal at %s, and echo is on again', (_name, send, signal) => {
    const outcome = runOnTerminal([...ours, 'enc'], [['enc: ', send]], options());
    expect(outcome).toMatchObject({ signal, status: null, echo: [false], echo_after: true });
  });

  it('stops at Ctrl-Z with echo on, and asks anew when it goes on', () => {
    const shell = ['/bin/bash', '--norc', '--noprofile', '--noediting', '-i'];
    const steps = [
      ['$ ', `set +H; PS1=; ${ours.join(' ')} enc\n`],
      ['for enc: ', '\x1a'],
      ['Stopped', 'stty -a | grep -q " -echo " || echo "is" "on"; fg\n'],
      ['is on', ''],
      ['for enc: ', 'secret\n'],
      ['Identity added', 'exit\n'],
    ] as const;
    const outcome = runOnTerminal(shell, steps, { ...options(), env: { ...options().env, PS1: '$ ', TERM: 'dumb' } });
    expect(outcome.echo.slice(1, 5)).toEqual([false, true, expect.any(Boolean), false]);
    expect(outcome.output).not.toContain('secret');
  });

  it('asks askpass instead where that is preferred', () => {
    const own = { ...options().env, SSH_ASKPASS: './secret', SSH_ASKPASS_REQUIRE: 'prefer', DISPLAY: 'x' };
    const outcome = runOnTerminal([...ours, 'enc'], [], { ...options(), env: own });
    expect(outcome).toMatchObject({ status: 0, output: 'Identity added: enc (enc comment)\n' });
  });

  it('says more than OpenSSH after its line, for a person alone', () => {
    const open = runOnTerminal([...ours, 'open'], [], options());
    expect(open.output).toMatch(/This private key will be ignored.\n {2}To make it yours alone: chmod 600 'open'\n$/);
    const junk = runOnTerminal([...ours, 'junk'], [], options());
    expect(junk.output).toMatch(/^Error loading key "junk": invalid format\n {2}\S.+\n$/);
  });

  it.each([
    ['a public key', 'id.pub', /ignored.\n {2}this is a public key, not a private key\n$/],
    ['a folder', '.', /ignored.\n {2}this is a folder, not a private key\n$/],
    ['a device', '/dev/null', /ignored.\n$/],
  ])('proposes no chmod for %s that others may read', (_name, file, end) => {
    chmodSync(folder, 0o755);
    const outcome = runOnTerminal([...ours, file], [], options());
    chmodSync(folder, 0o700);
    expect(outcome).toMatchObject({ status: 1, output: expect.stringMatching(end) });
  });
});
