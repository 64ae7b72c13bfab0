import { describe, expect, it } from 'vitest';
import { type Bindings, bind, noBindings } from '../../../src/policy/bindings.ts';
import type { Peer, PeerProcess } from '../../../src/policy/facts.ts';
import { MAX_PROCESSES, Relays } from '../../../src/policy/relay.ts';
import { programName } from '../../../src/policy/relayprograms.ts';
import { classify, type SignedData } from '../../../src/wire/signeddata.ts';
import { raw } from '../wire/build.ts';
import { bindTo, bound, loginData, makeHost, newSession } from './hosts.ts';

const github = makeHost('github.com');
const bastion = makeHost('bastion');
const db = makeHost('db1');
const key = makeHost('key');

const sshsig: SignedData = { kind: 'sshsig', namespace: 'git', reserved: raw(), hashAlgorithm: 'sha512', hash: raw() };
const TWO_SESSIONS = /speaks for two sessions/;

function processOf(program: string | undefined, change: Partial<PeerProcess> = {}): PeerProcess {
  return {
    pid: 4711,
    startTime: '100',
    program,
    group: 4711,
    session: 4000,
    hasTerminal: true,
    folder: '/home/alice',
    isInOurNamespace: true,
    claimedArguments: [program ?? 'x'],
    ...change,
  };
}

function peerOf(process: PeerProcess | undefined, change: Partial<Peer> = {}): Peer {
  return { uid: 1000, pid: process?.pid, processes: () => (process === undefined ? [] : [process]), ...change };
}

const ssh = (pid = 4711, startTime = '100'): Peer => peerOf(processOf('/usr/bin/ssh', { pid, startTime }));
const login = (request: ReturnType<typeof bindTo>): SignedData => classify(loginData(key.blob, request));

describe('honest clients', () => {
  it('are not noticed: ssh with several connections for one session, as the master of others has', () => {
    const relays = new Relays();
    const session = bindTo(bastion, false);
    for (let i = 0; i < 3; i++) {
      expect(relays.notice(ssh())).toBeUndefined();
      expect(relays.notice(ssh(), bound(session))).toBeUndefined();
      expect(relays.notice(ssh(), bound(session), login(session))).toBeUndefined();
    }
  });

  it('are not noticed: two processes of ssh for a jump, the same number for another process later', () => {
    const relays = new Relays();
    expect(relays.notice(ssh(1), bound(bindTo(bastion, false)))).toBeUndefined();
    expect(relays.notice(ssh(2), bound(bindTo(db, false)))).toBeUndefined();
    expect(relays.notice(ssh(1, '200'), bound(bindTo(db, false)))).toBeUndefined();
  });

  it('are not noticed: ssh that forwards the agent, whatever logs in through it', () => {
    const relays = new Relays();
    const own = bindTo(bastion, false);
    relays.notice(ssh(), bound(own), login(own));
    const forwards = { ...own, isForwarding: true };
    for (const host of [github, db]) {
      const far = bindTo(host, false);
      expect(relays.notice(ssh(), bound(forwards, far), login(far))).toBeUndefined();
      expect(relays.notice(ssh(), bound(forwards), sshsig)).toBeUndefined();
    }
    expect(relays.notice(ssh(), bound(own))).toBeUndefined();
  });

  it('are not noticed: an older ssh, which binds nothing', () => {
    const relays = new Relays();
    const session = bindTo(bastion, false);
    expect(relays.notice(ssh(), noBindings, login(session))).toBeUndefined();
    expect(relays.notice(ssh(), noBindings, login(session))).toBeUndefined();
  });

  it.each(['/usr/bin/python3.11', '/usr/bin/go-git', '/usr/bin/ssh-add', '/usr/bin/ssh-keygen', '/usr/bin/node'])(
    'are not noticed: %s, which binds nothing and may log in to many hosts',
    (program) => {
      const relays = new Relays();
      const peer = peerOf(processOf(program));
      for (const host of [github, db])
        expect(relays.notice(peer, noBindings, login(bindTo(host, false)))).toBeUndefined();
      expect(relays.notice(peer, noBindings, sshsig)).toBeUndefined();
      expect(relays.size).toBe(0);
    },
  );

  it('are not noticed: callers in this process, processes that are gone, root, and one that is known to hide', () => {
    const relays = new Relays();
    expect(relays.notice(undefined, bound(bindTo(db, false)))).toBeUndefined();
    expect(relays.notice(peerOf(undefined, { pid: 12 }))).toBeUndefined();
    expect(relays.notice(peerOf(processOf(undefined), { uid: 0 }))).toBeUndefined();
    const hidden = processOf(undefined, { claimedArguments: ['/usr/bin/keepassxc', '--x'] });
    expect(relays.notice(peerOf(hidden))).toBeUndefined();
    expect(relays.notice(peerOf(processOf('/usr/bin/ssh', { isInOurNamespace: undefined })))).toBeUndefined();
  });
});

describe('one process of ssh', () => {
  it('that binds two sessions is noticed, on every connection from then on', () => {
    const relays = new Relays();
    const own = bindTo(bastion, false);
    expect(relays.notice(ssh(), bound(own), login(own))).toBeUndefined();
    expect(relays.notice(ssh(), bound(bindTo(db, false)))).toMatch(TWO_SESSIONS);
    expect(relays.notice(ssh())).toMatch(TWO_SESSIONS);
    expect(relays.notice(ssh(), bound(own))).toMatch(TWO_SESSIONS);
    expect(relays.notice(ssh(2), bound(bindTo(db, false)))).toBeUndefined();
  });

  it('that asks for a login to another session than its own is noticed, whether it binds it or not', () => {
    const own = bindTo(bastion, false);
    for (const bindings of [noBindings, bound(own)]) {
      const relays = new Relays();
      expect(relays.notice(ssh(), bound(own), login(own))).toBeUndefined();
      expect(relays.notice(ssh(), bindings, login(bindTo(db, false)))).toMatch(TWO_SESSIONS);
    }
  });

  it('that binds nothing and logs in to two sessions is noticed', () => {
    const relays = new Relays();
    expect(relays.notice(ssh(), noBindings, login(bindTo(bastion, false)))).toBeUndefined();
    expect(relays.notice(ssh(), noBindings, login(bindTo(db, false)))).toMatch(TWO_SESSIONS);
  });

  it('that asks for what is no login is noticed', () => {
    const own = bindTo(bastion, false);
    for (const bindings of [noBindings, bound(own)]) {
      expect(new Relays().notice(ssh(), bindings, sshsig)).toMatch(/asks for more than a login/);
      expect(new Relays().notice(ssh(), bindings, { kind: 'unidentified' })).toMatch(/asks for more than a login/);
    }
  });

  it.each(['remove', 'removeAll', 'lock', 'unlock', 'addToken', 'removeToken', 'unknown'] as const)(
    'that asks to %s is noticed, on the connections that it has already, too',
    (kind) => {
      const relays = new Relays();
      const own = bound(bindTo(bastion, false));
      relays.notice(ssh(), own);
      expect(relays.notice(ssh(), noBindings, { kind })).toMatch(/asks for more than a login/);
      expect(relays.notice(ssh(), own, { kind: 'list' })).toMatch(/asks for more than a login/);
    },
  );

  it('that lists the keys for no session is noticed, if it is one that binds', () => {
    const relays = new Relays();
    const own = bindTo(bastion, false);
    for (const asked of [{ kind: 'list' }, { kind: 'extension' }, { kind: 'add' }] as const)
      expect(relays.notice(ssh(), noBindings, asked)).toBeUndefined();
    relays.notice(ssh(), noBindings, login(own));
    expect(relays.notice(ssh(), noBindings, { kind: 'list' })).toBeUndefined();
    for (const kind of ['list', 'add'] as const) expect(relays.notice(ssh(), bound(own), { kind })).toBeUndefined();
    expect(relays.notice(ssh(), noBindings, { kind: 'add' })).toBeUndefined();
    expect(relays.notice(ssh(), bound({ ...own, isForwarding: true }), { kind: 'removeAll' })).toBeUndefined();
    expect(relays.notice(ssh(), noBindings, { kind: 'list' })).toMatch(/lists keys for no session/);
  });

  it('does not pay for a binding that failed: the connection counts as forwarded anyway', () => {
    const relays = new Relays();
    const session = newSession();
    const forged = { ...bindTo(db, false, session), signature: raw(0) };
    const failed: Bindings = bind(noBindings, forged).bindings;
    expect(relays.notice(ssh(), failed, sshsig)).toBeUndefined();
    expect(relays.notice(ssh(), bound(bindTo(bastion, false)))).toBeUndefined();
  });

  it('whose start is not known is judged by what it does now alone', () => {
    const relays = new Relays();
    const peer = peerOf(processOf('/usr/bin/ssh', { startTime: undefined }));
    expect(relays.notice(peer, bound(bindTo(bastion, false)))).toBeUndefined();
    expect(relays.notice(peer, bound(bindTo(db, false)))).toBeUndefined();
    expect(relays.notice(peer, noBindings, sshsig)).toMatch(/more than a login/);
    expect(relays.size).toBe(0);
  });
});

describe('ssh in the background', () => {
  const words = ['ssh', '-f', '-N', '-R', '/x:/y', 'bastion'];
  const foreground = (pid: number): Peer =>
    peerOf(processOf('/usr/bin/ssh', { pid, startTime: String(pid), claimedArguments: words }));
  const background = (pid: number, claimedArguments = words): Peer =>
    peerOf(processOf('/usr/bin/ssh', { pid, startTime: String(pid), session: pid, claimedArguments }));
  const own = bound(bindTo(bastion, false));
  const far = bound(bindTo(db, false));

  it('has the session of the process that it was before', () => {
    const relays = new Relays(({ pid }) => pid !== 1);
    expect(relays.notice(foreground(1), own)).toBeUndefined();
    expect(relays.notice(background(2), far)).toMatch(TWO_SESSIONS);
  });

  it('is not taken for another one: with other words, of one that lives, or that was a service', () => {
    const relays = new Relays(({ pid }) => pid !== 1 && pid !== 5);
    relays.notice(foreground(1), own);
    expect(relays.notice(background(2, ['ssh', 'db1']), far)).toBeUndefined();
    expect(relays.notice(foreground(3), far)).toBeUndefined();
    const living = new Relays(() => true);
    living.notice(foreground(1), own);
    expect(living.notice(background(2), far)).toBeUndefined();
    const services = new Relays(({ pid }) => pid !== 5);
    services.notice(background(5), own);
    expect(services.notice(background(6), far)).toBeUndefined();
  });

  it('as the master of others has logged in: it asks for itself no more', () => {
    const master = background(7, ['ssh: /home/alice/.ssh/c [mux]', '', '']);
    const relays = new Relays();
    expect(relays.notice(master)).toBeUndefined();
    expect(relays.notice(master, bound(bindTo(bastion, true)), sshsig)).toBeUndefined();
    expect(relays.notice(master, far)).toMatch(/has logged in long ago/);
    expect(new Relays().notice(master, noBindings, login(bindTo(db, false)))).toMatch(/has logged in long ago/);
  });
});

describe('who is noticed whatever it asks', () => {
  it.each([
    ['/usr/bin/socat', 'socat passes on what others ask'],
    ['/usr/bin/socat1 (deleted)', undefined],
    ['/usr/bin/socat (deleted)', 'socat passes on what others ask'],
    ['/bin/nc.openbsd', 'nc.openbsd passes on what others ask'],
    ['/nix/store/x/bin/.socat-wrapped', 'socat passes on what others ask'],
    ['/mnt/c/tools/npiperelay.exe', 'npiperelay passes on what others ask'],
    ['/usr/sbin/sshd', 'sshd lets in those who log in here from other machines'],
    ['/usr/libexec/docker/cli-plugins/docker-buildx', 'docker-buildx hands the agent to containers'],
    ['/Applications/Docker.app/com.docker.backend', 'com.docker.backend hands the agent to containers'],
    ['/usr/bin/qemu-system-x86_64', 'qemu-system-x86_64 hands the agent to virtual machines'],
    ['/usr/share/code/code', 'code hands the agent to the machines and containers that it edits on'],
    ['/home/a/.vscode-server/bin/0f/node', 'node hands the agent to the machines and containers that it edits on'],
    ['/usr/bin/so\u202ecat', undefined],
  ])('%s', (program, reason) => {
    expect(new Relays().notice(peerOf(processOf(program)))).toBe(reason);
  });

  it('one in another pid namespace, or in one that cannot be seen', () => {
    const container = processOf('/usr/bin/ssh', { isInOurNamespace: false });
    expect(new Relays().notice(peerOf(container))).toBe('it comes from a container');
    expect(new Relays().notice(peerOf(undefined, { pid: 0 }))).toBe('it comes from outside of this container');
  });

  it('one of ours that hides its program', () => {
    const hidden = (...claimedArguments: string[]): Peer => peerOf(processOf(undefined, { claimedArguments }));
    expect(new Relays().notice(hidden('something'))).toBe('the program that asks hides itself');
    expect(new Relays().notice(hidden())).toBe('the program that asks hides itself');
    expect(new Relays().notice(hidden('sshd: alice@pts/1'))).toMatch(/^sshd lets in/);
    expect(new Relays().notice(hidden('sshd-session: alice'))).toMatch(/^sshd-session lets in/);
  });

  it('one that has the session of an ssh and is none', () => {
    const peer = peerOf(processOf('/usr/bin/python3.11'));
    const reason = 'python3.11 is no ssh, yet it has the session of one';
    expect(new Relays().notice(peer, bound(bindTo(db, false)))).toBe(reason);
    expect(new Relays().notice(peer, bound(bindTo(bastion, true)))).toBeUndefined();
  });
});

describe('memory', () => {
  it('is bounded, and forgets those that are gone first', () => {
    const relays = new Relays(({ pid }) => pid === 1);
    expect(relays.notice(ssh(1, '1'), bound(bindTo(bastion, false)))).toBeUndefined();
    const many = bound(bindTo(github, false));
    for (let pid = 2; pid < MAX_PROCESSES + 100; pid++)
      expect(relays.notice(ssh(pid, String(pid)), many)).toBeUndefined();
    expect(relays.size).toBeLessThanOrEqual(MAX_PROCESSES);
    expect(relays.notice(ssh(1, '1'), bound(bindTo(db, false)))).toMatch(TWO_SESSIONS);
  });

  it('that had to let go of living ones takes what it no longer knows for relays', () => {
    const relays = new Relays();
    const own = bindTo(bastion, false);
    expect(relays.notice(ssh(1, '1'), bound(own))).toBeUndefined();
    const many = bound(bindTo(github, false));
    for (let pid = 2; pid < MAX_PROCESSES + 100; pid++) relays.notice(ssh(pid, String(pid)), many);
    expect(relays.size).toBeLessThanOrEqual(MAX_PROCESSES);
    expect(relays.notice(ssh(1, '1'), bound(bindTo(db, false)))).toMatch(/too many clients/);
    expect(relays.notice(ssh(90_000, '90000'), bound(own))).toBeUndefined();
  });
});

it('names of programs are file names, as others call them', () => {
  const names = ['/usr/bin/ssh', 'ssh', '/x/ssh (deleted)', '/nix/.ssh-wrapped', 'C:/ssh.EXE', '/a/'].map(programName);
  expect(names).toEqual(['ssh', 'ssh', 'ssh', 'ssh', 'ssh', '']);
});
