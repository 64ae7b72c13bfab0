import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_PRINCIPALS } from '../../../src/wire/certificatebody.ts';
import { classify, MAX_COMMAND_WORDS, type SignedData } from '../../../src/wire/signeddata.ts';
import { fromBase64Text, LOGINS, RECORDED, recorded, signedIn } from '../policy/sessions.ts';
import { fill, type Part, raw, str, u32, u64 } from './build.ts';

function only(name: string): Uint8Array {
  const data = signedIn(recorded(name)).find((one) => one !== undefined);
  if (data === undefined) throw new Error(`${name} signs nothing`);
  return data;
}

const ALL = [...RECORDED, 'sudo-command'];

function kindOf(...parts: readonly Part[]): SignedData['kind'] {
  return classify(raw(...parts)).kind;
}

describe('what real clients asked to sign', () => {
  it.each(LOGINS)('is a login in %s', (name) => {
    const session = recorded(name);
    const { facts } = session;
    let logins = 0;
    for (const [i, data] of signedIn(session).entries()) {
      if (data === undefined) continue;
      logins++;
      const signed = classify(data);
      if (signed.kind !== 'login') throw new Error(signed.kind);
      const hostKey = facts.hostKeys === undefined ? facts.hostKey : facts.hostKeys[i];
      expect(signed).toMatchObject({
        user: facts.user,
        service: 'ssh-connection',
        method: facts.method,
        algorithm: facts.algorithm,
      });
      expect(signed.keyBlob).toEqual(fromBase64Text(facts.key));
      expect(signed.hostKey).toEqual(hostKey ? fromBase64Text(hostKey) : undefined);
      const binds = (session.connections[i] ?? []).filter((request) => request.kind === 'extension');
      const last = binds.at(-1);
      if (last?.kind !== 'extension') throw new Error('no bind');
      // The session identifier is the second string of the last bind.
      expect(Buffer.from(last.body).includes(Buffer.from(signed.sessionId))).toBe(true);
      expect([32, 64]).toContain(signed.sessionId.length);
    }
    expect(logins).toBeGreaterThan(0);
  });

  it('is an SSHSIG for ssh-keygen -Y sign', () => {
    const { facts } = recorded('sshsig-git');
    expect(classify(only('sshsig-git'))).toEqual({
      kind: 'sshsig',
      namespace: 'git',
      reserved: new Uint8Array(),
      hashAlgorithm: 'sha512',
      hash: new Uint8Array(
        createHash('sha512')
          .update(facts.message as string)
          .digest(),
      ),
    });
  });

  it.each(['certificate-user', 'certificate-host'])('is a certificate in %s', (name) => {
    const { facts } = recorded(name);
    expect(classify(only(name))).toEqual({
      kind: 'certificate',
      type: facts.type,
      certificateKind: facts.certificateKind,
      serial: BigInt(facts.serial as number),
      keyId: facts.keyId,
      principals: facts.principals,
      validAfter: BigInt(facts.validAfter as number),
      validBefore: BigInt(facts.validBefore as string),
      criticalOptions: facts.criticalOptions,
      extensions: facts.extensions,
      authority: fromBase64Text(facts.authority as string),
    });
  });

  it.each(['sudo', 'sudo-command'])('is sudo for pam_ssh_agent_auth in %s', (name) => {
    const { facts } = recorded(name);
    const signed = classify(only(name));
    if (signed.kind !== 'sudo') throw new Error(signed.kind);
    const { user, ruser, service, cwd, argv, hostname: host } = facts;
    expect(signed).toMatchObject({ user, ruser, service, cwd, argv, hostname: host, algorithm: 'ssh-ed25519' });
    expect(signed.keyBlob).toEqual(fromBase64Text(facts.key));
    expect(new Date(Number(signed.time) * 1000).getUTCFullYear()).toBe(2026);
  });

  it.each(ALL)('is unidentified in %s when cut at any byte, or with one more', (name) => {
    const data = only(name);
    for (let end = 0; end < data.length; end++) expect(classify(data.subarray(0, end)).kind).toBe('unidentified');
    expect(kindOf(data, 0)).toBe('unidentified');
  });

  it.each(ALL)('never throws in %s, whichever byte is changed', (name) => {
    const data = only(name);
    fc.assert(
      fc.property(fc.nat(data.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const changed = raw(data);
        changed[at] = (changed[at] ?? 0) ^ change;
        const { kind } = classify(changed);
        expect(['unidentified', classify(data).kind]).toContain(kind);
      }),
    );
  });

  it('comes back as views of the data', () => {
    const data = only('login-ed25519');
    const signed = classify(data);
    if (signed.kind !== 'login') throw new Error(signed.kind);
    for (const bytes of [signed.sessionId, signed.keyBlob, signed.hostKey]) expect(bytes?.buffer).toBe(data.buffer);
  });
});

const ed25519 = raw(str('ssh-ed25519'), str(fill(32)));
const rsa = raw(str('ssh-rsa'), str(1, 0, 1), str(0, fill(128, 0x91)));
const rsaCertificate = raw(str('ssh-rsa-cert-v01@openssh.com'), str(fill(32)));

interface LoginParts {
  session?: Part;
  number?: number;
  user?: Part;
  service?: string;
  method?: string;
  has?: number;
  algorithm?: string;
  blob?: Uint8Array;
  rest?: Uint8Array;
}

function login(change: LoginParts = {}): Uint8Array {
  const { session = fill(32), number = 50, user = 'alice', service = 'ssh-connection', method = 'publickey' } = change;
  const { has = 1, algorithm = 'ssh-ed25519', blob = ed25519, rest = raw() } = change;
  return raw(str(session), number, str(user), str(service), str(method), has, str(algorithm), str(blob), rest);
}

describe('a login', () => {
  it('is recognised as built by hand', () => {
    expect(classify(login())).toEqual({
      kind: 'login',
      sessionId: fill(32),
      user: 'alice',
      service: 'ssh-connection',
      method: 'publickey',
      algorithm: 'ssh-ed25519',
      keyBlob: ed25519,
    });
  });

  it.each([
    ['an empty session identifier', { session: '' }],
    ['another message number', { number: 51 }],
    ['a NUL in the user', { user: raw('al', 0, 'ice') }],
    ['another service', { service: 'ssh-userauth' }],
    ['another method', { method: 'hostbased' }],
    ['no signature announced', { has: 0 }],
    ['a truth value that is not 1', { has: 2 }],
    ['an algorithm of another key type', { algorithm: 'rsa-sha2-512' }],
    ['an algorithm that nobody knows', { algorithm: 'ssh-dss', blob: raw(str('ssh-dss'), str(fill(8))) }],
    ['an RSA algorithm with a certificate', { algorithm: 'rsa-sha2-512', blob: rsaCertificate }],
    ['a certificate algorithm with a plain key', { algorithm: 'rsa-sha2-512-cert-v01@openssh.com', blob: rsa }],
    ['an empty key', { blob: raw() }],
    ['a host key without the method for it', { rest: str(ed25519) }],
    ['the host-bound method without a host key', { method: 'publickey-hostbound-v00@openssh.com' }],
    ['an empty host key', { method: 'publickey-hostbound-v00@openssh.com', rest: str('') }],
    ['bytes at its end', { method: 'publickey-hostbound-v00@openssh.com', rest: raw(str(ed25519), 0) }],
  ] as [string, LoginParts][])('is not recognised with %s', (_, change) => {
    expect(classify(login(change)).kind).toBe('unidentified');
  });

  it.each([
    ['ssh-rsa', rsa],
    ['rsa-sha2-256', rsa],
    ['rsa-sha2-512', rsa],
    ['ssh-rsa-cert-v01@openssh.com', rsaCertificate],
    ['rsa-sha2-256-cert-v01@openssh.com', rsaCertificate],
    ['rsa-sha2-512-cert-v01@openssh.com', rsaCertificate],
    ['webauthn-sk-ecdsa-sha2-nistp256@openssh.com', raw(str('sk-ecdsa-sha2-nistp256@openssh.com'), str('nistp256'))],
  ] as [string, Uint8Array][])('may be by %s', (algorithm, blob) => {
    expect(classify(login({ algorithm, blob }))).toMatchObject({ kind: 'login', algorithm });
  });
});

describe('an SSHSIG', () => {
  it.each([
    ['an empty namespace', str('')],
    ['a NUL in the namespace', str('g', 0, 't')],
  ])('is not recognised with %s', (_, namespace) => {
    expect(kindOf('SSHSIG', str('git'), str(''), str('sha256'), str(fill(32)))).toBe('sshsig');
    expect(kindOf('SSHSIG', namespace, str(''), str('sha256'), str(fill(32)))).toBe('unidentified');
  });

  it('is not recognised when the hash has not the length of its algorithm, or an unknown one', () => {
    for (const [name, length] of [
      ['sha512', 32],
      ['sha256', 64],
      ['sha1', 20],
    ] as const)
      expect(kindOf('SSHSIG', str('git'), str(''), str(name), str(fill(length)))).toBe('unidentified');
  });

  it('keeps a reserved field that is not empty', () => {
    const signed = classify(raw('SSHSIG', str('git'), str('later'), str('sha512'), str(fill(64))));
    expect(signed).toMatchObject({ kind: 'sshsig', reserved: raw('later') });
  });
});

describe('a certificate', () => {
  const type = 'ssh-ed25519-cert-v01@openssh.com';
  const certificate = (kind: number, principals: Uint8Array, options: Uint8Array = raw()): Uint8Array =>
    raw(
      ...[str(type), str(fill(32)), str(fill(32)), u64(7n), u32(kind), str('id'), str(principals)],
      ...[u64(1n), u64(2n), str(options), str(''), str(''), str(ed25519)],
    );

  it('is recognised as built by hand', () => {
    expect(classify(certificate(2, raw(str('a'), str('b')), raw(str('o'), str('v'))))).toMatchObject({
      kind: 'certificate',
      certificateKind: 'host',
      serial: 7n,
      principals: ['a', 'b'],
      criticalOptions: ['o'],
      extensions: [],
    });
  });

  it('is not recognised for neither user nor host, with a broken list, or with too many principals', () => {
    expect(classify(certificate(3, raw())).kind).toBe('unidentified');
    expect(classify(certificate(1, raw(str('a'), 0))).kind).toBe('unidentified');
    expect(classify(certificate(1, raw(), str('option without data'))).kind).toBe('unidentified');
    const many = (count: number): Uint8Array => raw(...Array.from({ length: count }, () => str('p')));
    expect(classify(certificate(1, many(MAX_PRINCIPALS))).kind).toBe('certificate');
    expect(classify(certificate(1, many(MAX_PRINCIPALS + 1))).kind).toBe('unidentified');
  });

  it('is not recognised when it is signed already, or a plain key', () => {
    expect(kindOf(certificate(1, raw()), str('signature'))).toBe('unidentified');
    expect(kindOf(ed25519)).toBe('unidentified');
  });
});

describe('sudo', () => {
  const words = (count: number, list: readonly string[]): Uint8Array =>
    raw(u32(count), ...list.map((word) => str(word)));
  const record = (version: number, command: Uint8Array): Uint8Array =>
    raw(
      ...[u32(version), str(fill(16)), str('root'), str('alice'), str('sudo'), str('/')],
      ...[str(command), str('web1'), u64(5n)],
    );
  const sudo = (inner: Uint8Array, outer = 'alice', module = 'pam_ssh_agent_auth'): SignedData =>
    classify(
      raw(...[str(inner), 54, str(outer), str(module), str('publickey')], ...[1, str('ssh-ed25519'), str(ed25519)]),
    );

  it('names user, command and host', () => {
    expect(sudo(record(101, words(2, ['rm', '-rf'])))).toMatchObject({
      kind: 'sudo',
      user: 'root',
      ruser: 'alice',
      argv: ['rm', '-rf'],
      hostname: 'web1',
      time: 5n,
    });
  });

  it('has no words where the module could not tell the command', () => {
    expect(sudo(record(101, raw()))).toMatchObject({ kind: 'sudo', argv: [] });
  });

  it('is not recognised when a part does not fit', () => {
    expect(sudo(record(102, raw())).kind).toBe('unidentified');
    expect(sudo(record(101, words(1, ['a', 'b']))).kind).toBe('unidentified');
    expect(sudo(record(101, words(0xffffffff, ['a']))).kind).toBe('unidentified');
    expect(sudo(record(101, raw()), 'bob').kind).toBe('unidentified');
    expect(sudo(record(101, raw()), 'alice', 'ssh-connection').kind).toBe('unidentified');
    const many = Array.from({ length: MAX_COMMAND_WORDS + 1 }, () => '');
    expect(sudo(record(101, words(many.length, many))).kind).toBe('unidentified');
  });

  it('is not taken for a login, nor a login for sudo', () => {
    expect(classify(login({ number: 54 })).kind).toBe('unidentified');
    expect(classify(login({ service: 'pam_ssh_agent_auth' })).kind).toBe('unidentified');
  });
});

it('never throws for any bytes, nor for any text that looks like JSON', () => {
  const bytes = fc.uint8Array({ maxLength: 300 });
  const text = fc
    .oneof(fc.json({ maxDepth: 2 }), fc.string({ unit: 'binary' }))
    .map((value) => raw('{"type":"webauthn.get",', value));
  fc.assert(
    fc.property(fc.oneof(bytes, text), (data) => {
      expect(classify(data)).toHaveProperty('kind');
    }),
  );
});

it('gives byte arrays as views of the data, for whatever it knows', () => {
  fc.assert(
    fc.property(fc.constantFrom(...ALL), fc.nat(40), (name, at) => {
      const data = raw(new Uint8Array(at), only(name)).subarray(at);
      const found = Object.values(classify(data)).filter((value) => value instanceof Uint8Array);
      expect(found.length).toBeGreaterThan(0);
      for (const bytes of found) {
        expect(bytes.buffer).toBe(data.buffer);
        expect(bytes.byteOffset).toBeGreaterThanOrEqual(at);
      }
    }),
  );
});
