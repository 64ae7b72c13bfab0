import { expect, describe as group, it } from 'vitest';
import { noBindings, refuseBinding } from '../../../src/policy/bindings.ts';
import type { PeerProcess } from '../../../src/policy/facts.ts';
import { describe } from '../../../src/policy/sentence.ts';
import { FOREVER } from '../../../src/wire/certificatebody.ts';
import { classify, type SignedData } from '../../../src/wire/signeddata.ts';
import { raw } from '../wire/build.ts';
import { bindTo, bound, loginData, NOW } from './hosts.ts';
import { process, shell } from './processes.ts';
import {
  bastion,
  byBastion,
  db1,
  factsOf,
  git,
  keyBlob,
  login,
  middle,
  printOf,
  sentence,
  sshsig,
  toDb,
  words,
} from './sentences.ts';

group('a login here', () => {
  it('names the user, the verified host and the command', () => {
    const names = { db1: ['github.com'] };
    expect(sentence({ bindings: bound(toDb), signed: login('git'), names, processes: git('git push') })).toBe(
      'log in as git on github.com (verified), for git push in ~/src/x',
    );
    expect(sentence({ bindings: bound(toDb), signed: login() })).toBe('log in as root on db1 (verified)');
  });

  it.each([
    ['two', ['a.org', 'b.org'], 'a.org or b.org (verified)'],
    ['many', ['a.org', 'b.org', 'c.org'], 'a.org or 2 other names (verified)'],
    ['a name and its addresses', ['a.org', '192.0.2.1', '2001:db8::1', '[192.0.2.1]:22'], 'a.org (verified)'],
    ['addresses alone', ['192.0.2.1', '192.0.2.2'], '192.0.2.1 (verified)'],
    ['a port of its own', ['[a.org]:2222'], '[a.org]:2222 (verified)'],
    ['the one that was asked for, among others', ['gist.github.com', 'github.com', 'x'], 'github.com (verified)'],
    ['others than the one that was asked for', ['gitlab.com'], 'gitlab.com (verified)'],
    ['one that looks like another', ['g\u0456thub.com'], 'g\u0456thub.com (mixed alphabets!) (verified)'],
  ])('chooses among names: %s', (_, db1Names, expected) => {
    const given = { bindings: bound(toDb), signed: login('git'), names: { db1: db1Names } };
    expect(sentence({ ...given, processes: git('git push') })).toContain(`log in as git on ${expected}, for`);
  });

  it.each([
    ['unknown', {}, 'that known_hosts does not have'],
    ['hidden', { hidden: 2 }, 'whose name known_hosts hides'],
  ])('names the key of a host that is %s', (_, change, expected) => {
    const given = { bindings: bound(toDb), signed: login(), host: { names: [], ...change } };
    expect(sentence(given)).toBe(`log in as root on a host with key ${printOf(db1)} ${expected}`);
  });

  it('says that a key is revoked, whatever names it had', () => {
    const host = { isRevoked: true };
    expect(sentence({ bindings: bound(toDb), signed: login(), host })).toBe(
      `log in as root on a host with key ${printOf(db1)}, which is revoked`,
    );
  });

  it.each([
    ['no binding', noBindings],
    ['the binding of another session', bound(bindTo(db1, false))],
    ['a binding that only forwards', bound({ ...toDb, isForwarding: true })],
  ])('is blind with %s', (_, bindings) => {
    expect(sentence({ bindings, signed: login() })).toMatch(/log in as root on a host that nobody verified$/);
  });

  it('is blind where its host key is another than the verified one', () => {
    const signed = classify(loginData(keyBlob, toDb, { hostKey: bastion.blob }));
    expect(sentence({ bindings: bound(toDb), signed })).toBe('log in as alice on a host that nobody verified');
  });
});

group('a login from afar', () => {
  it('names the way, nearest host first, and no command of this machine', () => {
    const given = { signed: login(), processes: git('git push') };
    expect(sentence({ ...given, bindings: bound(byBastion, toDb) })).toBe(
      'via bastion (verified): log in as root on db1 (verified)',
    );
    expect(sentence({ ...given, bindings: bound(byBastion, bindTo(middle, true), toDb) })).toBe(
      'via bastion, middle (verified): log in as root on db1 (verified)',
    );
  });

  it('marks each host where not all are known, and never takes a claimed name for one further on', () => {
    const bindings = bound(byBastion, bindTo(middle, true), toDb);
    expect(sentence({ bindings, signed: login(), names: { middle: [] } })).toBe(
      `via bastion (verified), a host with key ${printOf(middle)} that known_hosts does not have: log in as root on db1 (verified)`,
    );
    const names = { bastion: ['b', 'github.com'], db1: ['d', 'github.com'] };
    expect(sentence({ bindings: bound(byBastion, toDb), signed: login(), names, processes: git('git') })).toBe(
      'via github.com (verified): log in as root on d or github.com (verified)',
    );
  });

  it('names the ends of a long way', () => {
    const hops = [byBastion, bindTo(middle, true), bindTo(middle, true), bindTo(middle, true), bindTo(bastion, true)];
    expect(sentence({ bindings: bound(...hops, toDb), signed: login() })).toBe(
      'via bastion, middle, 2 more hosts, bastion (verified): log in as root on db1 (verified)',
    );
  });

  it('is blind for a session of which nothing is known', () => {
    const given = { bindings: bound(byBastion), signed: login() };
    expect(sentence(given)).toBe('via bastion (verified): log in as root on a host that nobody verified');
  });

  it('names guard, relay and failed binding after what is verified', () => {
    const failed = refuseBinding(bound(byBastion, toDb), 'no').bindings;
    expect(sentence({ bindings: failed, signed: login(), guard: 'g1', relay: 'socat' })).toBe(
      'via bastion (verified), guard g1, a relay, a host that failed to prove itself: log in as root on db1 (verified)',
    );
    expect(sentence({ bindings: bound(toDb), signed: login(), relay: 'socat', processes: git('git push') })).toBe(
      'via a relay: log in as root on db1 (verified)',
    );
    expect(sentence({ signed: login(), guard: 'g1', processes: git('git push') })).toBe(
      'via guard g1: log in as root on a host that nobody verified, for git push in ~/src/x',
    );
  });
});

group('other signatures', () => {
  const signs = (line: string): readonly PeerProcess[] => [
    process(300, '/usr/bin/ssh-keygen', { line: 'ssh-keygen -Y sign -n git', group: 200 }),
    process(200, '/usr/bin/git', { line, group: 200 }),
    shell,
  ];

  it.each([
    ['git commit -m x', 'sign a git commit (namespace git), for git commit in ~/src/x'],
    ['git', 'sign a git commit (namespace git), for git in ~/src/x'],
    ['git tag -s v1', 'sign a git tag (namespace git), for git tag in ~/src/x'],
    ['git push --signed', 'sign a git push (namespace git), for git push in ~/src/x'],
  ])('of %s', (line, expected) => {
    expect(sentence({ signed: sshsig('git'), processes: signs(line) })).toBe(expected);
  });

  it('of git in a script', () => {
    const script = process(150, '/usr/bin/bash', { line: 'bash release.sh' });
    const [peer, tag] = signs('git tag -s v1');
    expect(
      sentence({ signed: sshsig('git'), processes: [peer, tag, script, shell].filter((one) => one !== undefined) }),
    ).toBe('sign a git tag (namespace git), for release.sh in ~/src/x');
  });

  it.each([
    ['git', 'sign a git commit or tag (namespace git)'],
    ['file', 'sign a file (namespace file)'],
    ['email', 'sign an e-mail (namespace email)'],
    ['a@example.com', 'sign data (namespace a@example.com)'],
    ['git) (verified', 'sign data (namespace "git\\x29 \\x28verified")'],
  ])('in namespace %s, from afar', (namespace, expected) => {
    expect(sentence({ bindings: bound(byBastion), signed: sshsig(namespace) })).toBe(
      `via bastion (verified): ${expected}`,
    );
  });

  it('of nobody knows what', () => {
    expect(sentence({})).toBe('unidentified bytes');
    expect(sentence({ bindings: bound(byBastion) })).toBe('via bastion (verified): unidentified bytes');
  });

  it('for web sites', () => {
    const web = (type: string, origin: string): SignedData =>
      classify(raw(JSON.stringify({ type, origin, challenge: '' })));
    expect(sentence({ signed: web('webauthn.get', 'https://bank.example') })).toBe(
      'log in to the web site https://bank.example (claimed)',
    );
    expect(sentence({ signed: web('webauthn.create', 'x (verified)') })).toBe(
      'register with the web site "x \\x28verified\\x29" (claimed)',
    );
    expect(sentence({ signed: web('payment.get', 'https://shop') })).toBe(
      'confirm a payment on the web site https://shop (claimed)',
    );
  });
});

group('sudo', () => {
  const sudo: Extract<SignedData, { kind: 'sudo' }> = {
    ...{ kind: 'sudo', user: 'me', ruser: 'me', service: 'sudo', cwd: '/srv', argv: ['sudo', 'apt', 'upgrade'] },
    ...{ hostname: 'web1', time: 1n, algorithm: 'ssh-ed25519', keyBlob },
  };
  const byWeb = (...names: string[]) => ({ bindings: bound(byBastion), names: { bastion: names } });

  it.each([
    ['web1', ['web1']],
    ['web1', ['web1.example.com', '192.0.2.1']],
    ['web1.example.com', ['web1']],
    ['WEB1', ['[web1]:2222']],
  ])('on the host %s that is verified as %s', (hostname, names) => {
    expect(sentence({ signed: { ...sudo, hostname }, ...byWeb(...names) })).toBe(
      `sudo apt upgrade on ${names[0]} (host verified, command claimed)`,
    );
  });

  it.each([
    ['web1', ['db1'], 'via db1 (verified): sudo apt upgrade on web1 (host and command claimed)'],
    ['web1.evil', ['web1.org'], 'via web1.org (verified): sudo apt upgrade on web1.evil (host and command claimed)'],
    ['192', ['192.0.2.1'], 'via 192.0.2.1 (verified): sudo apt upgrade on 192 (host and command claimed)'],
    ['', ['x'], 'via x (verified): sudo apt upgrade on "" (host and command claimed)'],
  ])('on a host that calls itself %s and is verified as %s', (hostname, names, expected) => {
    expect(sentence({ signed: { ...sudo, hostname }, ...byWeb(...names) })).toBe(expected);
  });

  it('on the last host of a way, and on this machine', () => {
    const bindings = bound(bindTo(middle, true), byBastion);
    expect(sentence({ signed: { ...sudo, hostname: 'bastion' }, bindings })).toBe(
      'via middle (verified): sudo apt upgrade on bastion (host verified, command claimed)',
    );
    expect(sentence({ signed: sudo })).toBe('sudo apt upgrade on web1 (host and command claimed)');
  });

  it.each([
    [{ argv: ['/usr/bin/sudo', '-u', 'www', 'two words'] }, 'sudo -u www "two words"'],
    [{ argv: ['sudo', 'true (verified)'] }, 'sudo "true \\x28verified\\x29"'],
    [{ argv: [] }, 'sudo, for a command that it did not name'],
    [{ argv: ['sudo', ...Array(99).fill('x'.repeat(20))] }, `sudo${` ${'x'.repeat(20)}`.repeat(5)} …`],
    [{ service: 'su', user: 'postgres', argv: ['su', '-', 'postgres'] }, 'su - postgres as postgres'],
    [{ service: 'vector', argv: ['python3', '-'] }, 'vector for python3 -'],
  ])('shows what it was called with: %j', (change, expected) => {
    expect(sentence({ signed: { ...sudo, ...change } })).toBe(`${expected} on web1 (host and command claimed)`);
  });
});

group('a certificate', () => {
  const hour = 3600;
  const certificate: Extract<SignedData, { kind: 'certificate' }> = {
    ...{
      kind: 'certificate',
      type: 'ssh-ed25519-cert-v01@openssh.com',
      certificateKind: 'user',
      serial: 1n,
      keyId: 'carl',
    },
    ...{ principals: ['carl'], validAfter: BigInt(NOW - 60), validBefore: BigInt(NOW + 8 * hour - 3) },
    ...{ criticalOptions: [], extensions: ['permit-pty'], authority: keyBlob },
  };

  it.each([
    [{}, 'SSH certificate: carl, 8 h, principals carl'],
    [
      { certificateKind: 'host', principals: ['web1', 'web2'] },
      'SSH host certificate: carl, 8 h, principals web1, web2',
    ],
    [{ principals: [] }, 'SSH certificate: carl, 8 h, any principal'],
    [{ principals: ['a', 'b', 'c', 'd', 'e', 'f'] }, 'SSH certificate: carl, 8 h, principals a, b, c, d and 2 more'],
    [{ validAfter: 0n, validBefore: FOREVER }, 'SSH certificate: carl, for ever, principals carl'],
    [{ validBefore: BigInt(NOW + 90 * 24 * hour) }, 'SSH certificate: carl, 90 d, principals carl'],
    [{ validBefore: BigInt(NOW + 2.5 * hour) }, 'SSH certificate: carl, 2 h 30 min, principals carl'],
    [{ validBefore: BigInt(NOW + 300) }, 'SSH certificate: carl, 5 min, principals carl'],
    [{ validBefore: BigInt(NOW + 40) }, 'SSH certificate: carl, 40 s, principals carl'],
    [{ validBefore: BigInt(NOW) }, 'SSH certificate: carl, never valid, principals carl'],
    [{ validBefore: FOREVER - 1n }, 'SSH certificate: carl, until after the year 9999, principals carl'],
    [
      { validAfter: BigInt(NOW + 24 * hour), validBefore: BigInt(NOW + 25 * hour) },
      'SSH certificate: carl, from 2027-01-16, 1 h, principals carl',
    ],
    [{ criticalOptions: ['force-command'] }, 'SSH certificate: carl, 8 h, principals carl, options force-command'],
    [{ keyId: 'carl, for ever' }, 'SSH certificate: "carl, for ever", 8 h, principals carl'],
  ] as [Partial<typeof certificate>, string][])('changed by %o', (change, expected) => {
    expect(sentence({ signed: { ...certificate, ...change } })).toBe(`sign an ${expected}`);
  });

  it('has its times and all its parts in the lines', () => {
    const { claimed } = describe(factsOf({ signed: { ...certificate, validBefore: FOREVER } }), words);
    expect(claimed).toEqual(['valid from 2027-01-15T07:59:00.000Z to ever', 'principals: carl', 'may use permit-pty']);
  });
});

group('the lines below', () => {
  it('tell what is verified, and apart from it what is claimed', () => {
    const chain = git('git push --token secret');
    const { verified, claimed } = describe(
      factsOf({
        bindings: bound(byBastion, toDb),
        signed: login(),
        processes: chain,
        names: { db1: [] },
        relay: 'a (b)',
      }),
      words,
    );
    expect(verified).toEqual([
      `comes by host: key ${printOf(bastion)}, in known_hosts as bastion`,
      `host logged in to: key ${printOf(db1)}, not in known_hosts`,
      'taken for a relay: a [b]',
      'program /usr/bin/ssh, pid 300, user id 1000',
      'started by git, bash',
    ]);
    expect(claimed).toEqual(['command line: git push in ~/src/x']);
  });

  it('tell of a container', () => {
    const processes = [process(5, '/usr/bin/ssh', { isInOurNamespace: false })];
    expect(describe(factsOf({ processes }), words).verified).toContain('runs in a container');
  });
});
