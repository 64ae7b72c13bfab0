import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_COMMAND_WORD, MAX_FOLDER } from '../../../src/policy/command.ts';
import type { PeerProcess } from '../../../src/policy/facts.ts';
import { hostCandidates, MAX_CANDIDATES } from '../../../src/policy/hostcandidates.ts';
import { MAX_DECORATION } from '../../../src/policy/names.ts';
import { commandOf } from '../../../src/policy/sentence.ts';
import { init, process, shell, terminal } from './processes.ts';

const words = { home: '/home/me' };
const textOf = (...chain: readonly PeerProcess[]): string | undefined => commandOf(chain, words)?.claimedText;
const pidOf = (...chain: readonly PeerProcess[]): number | undefined => commandOf(chain, words)?.process.pid;

const ssh = process(300, '/usr/bin/ssh', { line: 'ssh git@github.com git-upload-pack x', group: 200 });
const git = process(200, '/usr/bin/git', { line: 'git push origin', group: 200 });
const none = { hasTerminal: false };

describe('the command that a process belongs to', () => {
  it('is the job of a shell in a terminal', () => {
    expect(textOf(ssh, git, shell, terminal, init)).toBe('git push in ~/src/x');
    expect(pidOf(ssh, shell, terminal, init)).toBe(300);
  });

  it('is the script that the shell was told to run, of which all others are parts', () => {
    const make = process(210, '/usr/bin/make', { line: 'make deploy TOKEN=secret' });
    const script = process(220, '/usr/bin/bash', { line: '/bin/bash ./deploy.sh --password secret' });
    expect(textOf(ssh, git, make, script, shell, init)).toBe('deploy.sh in ~/src/x');
    expect(textOf(ssh, git, make, shell, init)).toBe('make in ~/src/x');
  });

  it('is not cut off by workers that made sessions for themselves', () => {
    const line = '/usr/bin/python3 /usr/bin/ansible-playbook -i hosts -e password=secret.yml site.yml';
    const playbook = process(200, '/usr/bin/python3.11', { line });
    const worker = process(250, '/usr/bin/python3.11', { line, session: 250, group: 250, ...none });
    const client = process(300, '/usr/bin/ssh', { line: 'ssh web1', session: 250, group: 250, ...none });
    expect(textOf(client, worker, playbook, shell, terminal, init)).toBe('ansible-playbook site.yml in ~/src/x');
    const cron = process(90, '/usr/sbin/cron', { session: 90, ...none });
    const playbookOfCron = { ...playbook, session: 200, group: 200, ...none };
    expect(pidOf(client, worker, playbookOfCron, cron, init)).toBe(200);
  });

  it('is the whole of what has a terminal of its own within a job', () => {
    const sudo = process(200, undefined, { line: 'sudo git push' });
    const monitor = process(230, undefined, { line: 'sudo git push', session: 230 });
    const inner = process(240, '/usr/bin/git', { line: 'git push', session: 230, group: 240 });
    expect(pidOf(ssh, inner, monitor, sudo, shell, init)).toBe(200);
  });

  it('is what runs in a terminal in place of a shell, whatever the terminal is called', () => {
    const unknown = process(50, '/opt/my-terminal', { session: 50, ...none });
    const alone = process(100, '/usr/bin/git', { line: 'git rebase -i', group: 100 });
    expect(textOf(ssh, alone, unknown, init)).toBe('git rebase in ~/src/x');
    expect(pidOf(ssh, git, shell, unknown, init)).toBe(200);
  });

  it('is the process group without a terminal, and no program of a desktop or a service', () => {
    const desktop = process(40, '/usr/bin/gnome-shell', { session: 40, ...none });
    const editor = process(60, '/usr/share/code/code', { line: 'code', group: 60, session: 40, ...none });
    const inEditor = [ssh, git].map((one) => ({ ...one, group: 60, session: 40, ...none }));
    expect(textOf(...inEditor, editor, desktop, init)).toBe('code in ~/src/x');
    const cron = process(70, '/usr/sbin/cron', { session: 70, ...none });
    const job = process(80, '/usr/bin/dash', {
      claimedArguments: ['/bin/sh', '-c', 'git fetch'],
      session: 80,
      ...none,
    });
    const inJob = [ssh, git].map((one) => ({ ...one, group: 80, session: 80, ...none }));
    expect(textOf(...inJob, job, cron, init)).toBe('dash -c in ~/src/x');
    const jenkins = process(75, '/usr/bin/java', { session: 75, ...none });
    expect(pidOf(...inJob, job, jenkins, init)).toBe(80);
  });

  it('is the process itself where it left all that started it', () => {
    const master = process(300, '/usr/bin/ssh', { line: 'ssh: /run/mux [mux]', session: 300, group: 300, ...none });
    expect(pidOf(master, init)).toBe(300);
    const orphan = [ssh, git].map((one) => ({ ...one, ...none, session: 999 }));
    expect(pidOf(...orphan, init)).toBe(200);
  });

  it('is that on this side of sshd, tmux, containers, and shells within shells', () => {
    const inner = process(150, '/usr/bin/zsh', { line: 'zsh -i', group: 150 });
    for (const starter of [
      process(20, undefined, { line: 'sshd: me@pts/0' }),
      process(20, '/usr/bin/tmux', { line: 'tmux new' }),
      process(20, '/usr/bin/tmux (deleted)'),
      process(20, '/usr/bin/containerd-shim-runc-v2'),
      process(20, '/usr/bin/bash', { line: 'bash --init-file /usr/share/code/shell.sh' }),
      process(20, '/usr/bin/fish', { line: 'fish -C true' }),
      process(20, '/usr/bin/node', { line: 'node /opt/latchkey.main.js agent' }),
      inner,
    ])
      expect(pidOf({ ...ssh, ...none }, { ...git, ...none }, starter, init)).toBe(200);
  });

  it('is none where only such programs are there', () => {
    expect(textOf()).toBeUndefined();
    expect(textOf(shell, terminal, init)).toBeUndefined();
    expect(textOf(process(20, undefined, { line: 'sshd: me@notty' }), init)).toBeUndefined();
    expect(textOf(init)).toBeUndefined();
  });
});

describe('the words for a command', () => {
  it.each([
    ['/usr/bin/git', 'git -C /srv -c user.name=x --no-pager rebase -i main', 'git rebase'],
    ['/usr/lib/git-core/git', 'git', 'git'],
    ['/usr/bin/git', 'git https://me:secret@host/x', 'git'],
    ['/usr/bin/ssh', 'ssh -v -p 2222 -oUser=x -i key -- me@db1 rm -rf /', 'ssh db1'],
    ['/usr/bin/ssh', 'ssh ssh://me@db1:2222', 'ssh db1'],
    ['/usr/bin/ssh', 'ssh -V', 'ssh'],
    ['/usr/bin/scp', 'scp -r secret me@db1:/srv/x', 'scp db1'],
    ['/usr/bin/sftp', 'sftp -P 22 me@db1', 'sftp db1'],
    ['/usr/bin/rsync', 'rsync -a --password-file=p . db1::module', 'rsync db1'],
    ['/usr/bin/rsync', 'rsync -a . [2001:db8::1]:x', 'rsync 2001:db8::1'],
    ['/usr/bin/python3.11', '/usr/bin/python3 /usr/bin/ansible-playbook play/site.yaml', 'ansible-playbook site.yaml'],
    ['/usr/bin/python3.11', 'python3 -c print', 'python3.11'],
    ['/usr/bin/node', 'node /usr/bin/npm run deploy', 'npm run'],
    ['/usr/bin/node', 'npm', 'npm'],
    ['/usr/bin/npm', 'npm --token=secret run', 'npm'],
    ['/usr/bin/mysql', 'mysql -psecret production', 'mysql'],
    ['/usr/bin/bash', 'bash -euo pipefail /srv/deploy.sh secret', 'deploy.sh'],
    ['/usr/bin/bash', 'bash -ec secret', 'bash -c'],
    ['/usr/bin/bash', 'bash /dev/fd/63', 'bash'],
    ['/usr/bin/git (deleted)', 'git push', 'git push'],
    [undefined, '/usr/bin/su root', 'su'],
    ['/opt/my tool', 'x', '"my tool"'],
    ['/opt/x (verified)', 'x', '"x \\x28verified\\x29"'],
  ])('%s with "%s" is %s', (program, line, expected) => {
    expect(textOf(process(5, program, { line }), shell)).toBe(`${expected} in ~/src/x`);
  });

  it('leave out a folder that nobody knows', () => {
    expect(textOf(process(5, '/usr/bin/git', { line: 'git pull', folder: undefined }), shell)).toBe('git pull');
  });

  it('are bounded, and a process found, whatever processes say of themselves', () => {
    const name = fc.oneof(fc.constantFrom('/usr/bin/git', '/usr/bin/ssh', '/bin/bash', '/usr/bin/node'), fc.string());
    const number = fc.constantFrom(undefined, 1, 2, 3, 4, 5, 6);
    const one = fc.record({
      pid: fc.integer({ min: 1, max: 6 }),
      startTime: fc.constant('1'),
      program: fc.option(name, { nil: undefined }),
      group: number,
      session: number,
      hasTerminal: fc.boolean(),
      folder: fc.option(fc.string({ unit: 'binary', maxLength: 200 }), { nil: undefined }),
      isInOurNamespace: fc.constant(true),
      claimedArguments: fc.array(
        fc.oneof(fc.constantFrom('-c', '-p', '--', 'me@h:p', 'push'), fc.string({ unit: 'binary' })),
      ),
    });
    fc.assert(
      fc.property(fc.array(one, { maxLength: 8 }), (chain) => {
        const found = commandOf(chain, words);
        expect(hostCandidates(chain).length).toBeLessThanOrEqual(MAX_CANDIDATES);
        if (found === undefined) return;
        expect(chain).toContain(found.process);
        expect(found.process.pid).not.toBe(1);
        const max = 2 * (MAX_COMMAND_WORD + MAX_DECORATION) + MAX_FOLDER + MAX_DECORATION + 5;
        expect(found.claimedText.length).toBeLessThanOrEqual(max);
        expect(found.claimedText).not.toContain('(verified)');
      }),
      { numRuns: 1000 },
    );
  });
});

describe('names that hashed lines are tried with', () => {
  const candidates = (program: string, line: string): readonly string[] =>
    hostCandidates([process(5, `/usr/bin/${program}`, { line })]);

  it.each([
    ['ssh', 'ssh me@DB1.lan uptime', ['db1.lan']],
    ['ssh', 'ssh -p 2222 db1', ['[db1]:2222']],
    ['ssh', 'ssh -p2222 db1', ['[db1]:2222']],
    ['ssh', 'ssh -4vp 22 db1', ['db1']],
    ['ssh', 'ssh -o Port=2222 db1', ['[db1]:2222']],
    ['ssh', 'ssh ssh://me@db1:2222/', ['[db1]:2222']],
    ['ssh', 'ssh -oHostKeyAlias=real -o HostName=10.0.0.1 db1', ['db1', 'real', '10.0.0.1']],
    ['ssh', 'ssh -W [db1]:22 bastion', ['bastion']],
    ['ssh', 'ssh 2001:db8::1', ['2001:db8::1']],
    ['ssh', 'ssh me@domain@db1', ['db1']],
    ['ssh', 'ssh -o Host* x,y', []],
    ['git', 'git clone git@github.com:x/y', ['github.com']],
    ['git', 'git clone ssh://git@forge:2222/x', ['[forge]:2222']],
    ['git', 'git clone ./a:b /c:d', []],
    ['scp', 'scp me@a:x b:y ./c:d /e:f', ['a', 'b']],
    ['scp', 'scp scp://me@a:2222/x [2001:db8::1]:y', ['[a]:2222', '2001:db8::1']],
    ['rsync', 'rsync -a me@a:x rsync://b/y c::z', ['a', 'c']],
    ['sftp', 'sftp me@a:dir', ['a']],
    ['mysql', 'mysql me@a:x', []],
  ] as [string, string, string[]][])('of %s: %s', (program, line, expected) => {
    expect(candidates(program, line)).toEqual(expected);
  });

  it('are those of all processes, nearest first, each once, and no more than so many', () => {
    const chain = [
      process(7, '/usr/bin/ssh', { line: 'ssh github.com' }),
      process(6, '/usr/bin/git', { line: 'git clone git@github.com:x git@gist.github.com:y' }),
    ];
    expect(hostCandidates(chain)).toEqual(['github.com', 'gist.github.com']);
    const line = ['scp', ...Array.from({ length: 100 }, (_, i) => `h${i}:x`)].join(' ');
    expect(candidates('scp', line).length).toBe(MAX_CANDIDATES);
  });
});
