import { describe, expect, it } from 'vitest';
import { Usage } from '../../../src/cli/command.ts';
import { commandWith, guardCommand } from '../../../src/cli/guard.ts';
import type { Output } from '../../../src/cli/output.ts';
import { sshConfigCommand } from '../../../src/cli/sshconfig.ts';

const silent: Output = {
  line: () => {},
  lines: () => {},
  error: () => {},
  prompt: () => {},
  hint: () => {},
  debug: () => {},
  setDetail: () => {},
};

describe('latchkey guard says what is wrong with', () => {
  it.each([
    [['--ask', '--allow'], '--ask or --allow'],
    [['--list', '--revoke', 'g1'], '--list or --revoke'],
    [['--list', '--key', 'x'], 'open no guard'],
    [['--revoke', 'g1', '--', 'ssh'], 'open no guard'],
    [['--revoke'], '--revoke needs a word'],
    [['--key', ''], '--key needs a word'],
    [['--for', '0'], 'no time: 0'],
    [['--for', 'soon'], 'no time: soon'],
    [['--count', '0'], 'no count: 0'],
    [['--count', '1', '--count', '2'], '--count is given twice'],
    [['--via', 'a', '--via', 'b'], '--via is given twice'],
    [['--forever'], 'unknown option: --forever'],
    [['ssh', 'host'], 'put -- before the command'],
    [['--'], 'no command behind --'],
    [['--json', '--', 'ssh', 'host'], '--json takes no command'],
    [['--ensure', 'a', '--', 'ssh', 'host'], '--ensure takes no command'],
  ])('%j', async (argv, words) => {
    const error = await guardCommand.run(argv, {}, silent).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(Usage);
    expect((error as Usage).message).toContain(words);
  });

  it('a name that is none for a guard, before it looks for an agent', async () => {
    const run = guardCommand.run(['--ensure', '../x\u202e'], {}, silent);
    await expect(run).rejects.toThrow('no guard for ../x\\u{202e}');
  });
});

describe('latchkey ssh-config says what is wrong with', () => {
  it.each([
    [['--list'], 'unknown option: --list'],
    [['!a'], 'only hosts that are left out'],
    [['a,b'], 'no pattern for a host: a,b'],
  ])('%j', async (argv, words) => {
    await expect(sshConfigCommand.run(argv, {}, silent)).rejects.toThrow(words);
  });

  it.each([
    [{ SSH_AUTH_SOCK: "/tmp/it's/agent.sock" }, 'the path of the socket'],
    [{ SSH_AUTH_SOCK: '/tmp/a$b/agent.sock' }, 'the path of the socket'],
    [{ SSH_AUTH_SOCK: '/tmp/a%n/agent.sock' }, 'the path of the socket'],
  ])('paths that ssh or a shell would read otherwise: %j', async (env, words) => {
    await expect(sshConfigCommand.run(['a'], env, silent)).rejects.toThrow(words);
  });
});

describe('a command with a guard', () => {
  const path = '/run/guards/g1.sock';
  const given = (...command: string[]): { readonly variables: unknown; readonly words: unknown } => {
    const { variables, edit } = commandWith(command, path, '/run/agent.sock');
    return { variables, words: edit(command) };
  };

  it('has it as its agent', () => {
    expect(given('make', 'deploy')).toEqual({ variables: { SSH_AUTH_SOCK: path }, words: ['make', 'deploy'] });
  });

  it('forwards it where it is ssh, before all that ssh is told', () => {
    expect(given('/usr/bin/ssh', '-A', 'host')).toEqual({
      variables: { SSH_AUTH_SOCK: '/run/agent.sock' },
      words: ['/usr/bin/ssh', '-o', `ForwardAgent=${path}`, '-o', 'ControlPath=none', '-A', 'host'],
    });
  });

  it('has its path where {} stands', () => {
    expect(given('ssh', '-o', 'ForwardAgent={}', 'host')).toEqual({
      variables: {},
      words: ['ssh', '-o', `ForwardAgent=${path}`, 'host'],
    });
  });

  it('keeps the bytes of its other words', () => {
    const bytes = Uint8Array.of(0xff, 0x2e);
    const { edit } = commandWith(['x', '\ufffd.', 'a={}'], path, '');
    expect(edit(['x', bytes, 'a={}'])).toEqual(['x', bytes, `a=${path}`]);
  });
});
