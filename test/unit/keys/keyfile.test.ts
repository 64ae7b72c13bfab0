import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KeyError } from '../../../src/keys/error.ts';
import {
  commentOfKeyFile,
  MAX_KEY_FILE_BYTES,
  type PrivateKeyFile,
  publicBlobOfKeyFile,
  readPrivateKeyFile,
} from '../../../src/keys/keyfile.ts';
import { utf8 } from '../../../src/wire/bytes.ts';
import { string, u32 } from './keygen.ts';
import { expectHalvesToFit } from './keymath.ts';

const pass = 'correct horse';
let folder: string;

const path = (name: string): string => join(folder, name);
const run = (program: string, ...args: string[]): string =>
  execFileSync(program, args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const content = (name: string): Uint8Array => new Uint8Array(readFileSync(path(name)));
const read = (bytes: Uint8Array, phrase?: string): Promise<PrivateKeyFile> =>
  Promise.resolve(readPrivateKeyFile(bytes, phrase === undefined ? undefined : utf8(phrase)));
const blobOfLine = (line: string): Uint8Array => new Uint8Array(Buffer.from(line.split(' ')[1] ?? '', 'base64'));

/** The public blob as ssh-keygen works it out of the private file. */
function blobBySshKeygen(name: string, phrase = ''): Uint8Array {
  return blobOfLine(run('ssh-keygen', '-y', '-P', phrase, '-f', name));
}

async function codeOf(bytes: Uint8Array, phrase?: string): Promise<string> {
  try {
    const file = await read(bytes, phrase);
    file.wipe();
    return 'read';
  } catch (error) {
    return error instanceof KeyError ? error.code : `not a KeyError: ${error}`;
  }
}

async function messageOf(bytes: Uint8Array, phrase?: string): Promise<string> {
  try {
    await read(bytes, phrase);
    return 'read';
  } catch (error) {
    expect(error).toBeInstanceOf(KeyError);
    return (error as KeyError).message;
  }
}

interface Parts {
  publicBlob: Buffer;
  privatePart: Buffer;
  cipher?: string;
  kdf?: string;
  options?: Buffer;
  count?: number;
  checks?: [number, number];
  padding?: Buffer;
  comment?: string;
  after?: Buffer;
}

/** An unencrypted OpenSSH file by hand, every part of which can be made wrong. */
function handMade(parts: Parts): Uint8Array {
  const [one, two] = parts.checks ?? [7, 7];
  const body = Buffer.concat([u32(one), u32(two), parts.privatePart, string(parts.comment ?? 'by hand')]);
  const missing = (8 - (body.length % 8)) % 8;
  const padding = parts.padding ?? Buffer.from([1, 2, 3, 4, 5, 6, 7].slice(0, missing));
  const whole = Buffer.concat([
    Buffer.from('openssh-key-v1\0'),
    string(parts.cipher ?? 'none'),
    string(parts.kdf ?? 'none'),
    string(parts.options ?? Buffer.alloc(0)),
    u32(parts.count ?? 1),
    string(parts.publicBlob),
    string(Buffer.concat([body, padding])),
    parts.after ?? Buffer.alloc(0),
  ]);
  return armoured(whole);
}

function armoured(bytes: Buffer): Uint8Array {
  const lines = bytes.toString('base64').match(/.{1,70}/g) ?? [];
  return utf8(`-----BEGIN OPENSSH PRIVATE KEY-----\n${lines.join('\n')}\n-----END OPENSSH PRIVATE KEY-----\n`);
}

function unarmoured(bytes: Uint8Array): Buffer {
  return Buffer.from(
    Buffer.from(bytes)
      .toString()
      .replace(/-----[^\n]*-----/g, ''),
    'base64',
  );
}

const types: readonly [name: string, type: string, ...args: string[]][] = [
  ['ed25519', 'ssh-ed25519', '-t', 'ed25519'],
  ['p256', 'ecdsa-sha2-nistp256', '-t', 'ecdsa', '-b', '256'],
  ['p384', 'ecdsa-sha2-nistp384', '-t', 'ecdsa', '-b', '384'],
  ['p521', 'ecdsa-sha2-nistp521', '-t', 'ecdsa', '-b', '521'],
  ['rsa', 'ssh-rsa', '-t', 'rsa', '-b', '1024'],
];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'latchkey-keyfile-'));
  for (const [name, , ...args] of types)
    run('ssh-keygen', '-q', ...args, '-N', '', '-C', `${name} of a test`, '-f', name);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A copy of the key file `name`, changed by ssh-keygen. */
function changed(name: string, as: string, ...args: string[]): Uint8Array {
  writeFileSync(path(as), content(name), { mode: 0o600 });
  run('ssh-keygen', '-q', '-p', '-P', '', '-f', as, ...args);
  return content(as);
}

async function expectKey(file: PrivateKeyFile, type: string, blob: Uint8Array): Promise<void> {
  expect(file.key.type).toBe(type);
  expect(file.key.certificate).toBeUndefined();
  expect(Buffer.from(file.publicBlob).equals(blob)).toBe(true);
  expectHalvesToFit(type, file.key.fields);
}

describe('a private key in OpenSSH form', () => {
  it.each(types)('is read as %s without encryption, comment and all', async (name, type) => {
    const file = await read(content(name));
    await expectKey(file, type, blobOfLine(readFileSync(path(`${name}.pub`), 'utf8')));
    expect(file.comment).toBe(`${name} of a test`);
    expect(publicBlobOfKeyFile(content(name))).toEqual(file.publicBlob);
    expect(commentOfKeyFile(content(name))).toBe(file.comment);
  });

  it.each([
    '3des-cbc',
    'aes128-cbc',
    'aes192-cbc',
    'aes256-cbc',
    'aes128-ctr',
    'aes192-ctr',
    'aes256-ctr',
    'aes128-gcm@openssh.com',
    'aes256-gcm@openssh.com',
    'chacha20-poly1305@openssh.com',
  ])('is read where %s encrypts it, and a wrong passphrase is told from a missing one', async (cipher) => {
    const bytes = changed('p256', cipher, '-N', pass, '-a', '2', '-Z', cipher);
    await expectKey(await read(bytes, pass), 'ecdsa-sha2-nistp256', blobBySshKeygen(cipher, pass));
    expect((await read(bytes, pass)).comment).toBe('p256 of a test');
    expect(await codeOf(bytes, 'wrong')).toBe('wrong-passphrase');
    expect(await codeOf(bytes)).toBe('needs-passphrase');
    expect(await codeOf(bytes, '')).toBe('needs-passphrase');
    expect(publicBlobOfKeyFile(bytes)).toEqual(blobBySshKeygen(cipher, pass));
    expect(commentOfKeyFile(bytes)).toBeUndefined();
  });

  it.each([1, 5, 17, 33])('is read after %i rounds of bcrypt', async (rounds) => {
    const bytes = changed('rsa', `rounds${rounds}`, '-N', pass, '-a', String(rounds));
    await expectKey(await read(bytes, pass), 'ssh-rsa', blobBySshKeygen('rsa'));
  });

  it('takes a passphrase as bytes, whatever they are', async () => {
    const odd = 'pä\u{1f511}  ';
    const bytes = changed('ed25519', 'odd', '-N', odd, '-a', '1');
    expect(await codeOf(bytes, odd)).toBe('read');
    expect(await codeOf(bytes, odd.trim())).toBe('wrong-passphrase');
  });

  it('is read with CR LF, with text after it, and without a last newline', async () => {
    const lf = Buffer.from(content('ed25519')).toString();
    for (const variant of [lf.replaceAll('\n', '\r\n'), `${lf}\nnote\n`, lf.trimEnd()])
      expect(await codeOf(utf8(variant))).toBe('read');
  });

  it('is not looked at for a passphrase that it does not need', async () => {
    expect(await codeOf(content('ed25519'), 'whatever')).toBe('read');
  });

  it('is wiped, each field that the key has', async () => {
    for (const [name] of types) {
      const file = await read(content(name));
      const secrets = ['sk', 'd', 'iqmp', 'p', 'q'].filter((field) => file.key.fields[field] !== undefined);
      expect(secrets.length).toBeGreaterThan(0);
      const publicBlob = Buffer.from(file.publicBlob).toString('hex');
      file.wipe();
      for (const field of secrets) expect(file.key.fields[field]?.every((byte) => byte === 0)).toBe(true);
      expect(Buffer.from(file.publicBlob).toString('hex')).toBe(publicBlob);
    }
  });

  it('is read for the composite of ML-DSA-44 and Ed25519', async () => {
    const type = 'ssh-mldsa44-ed25519@openssh.com';
    const pk = Buffer.alloc(1344, 3);
    const sk = Buffer.alloc(64, 5);
    const publicBlob = Buffer.concat([string(type), string(pk)]);
    const privatePart = Buffer.concat([string(type), string(pk), string(sk)]);
    const file = await read(handMade({ publicBlob, privatePart }));
    expect(file.key.type).toBe(type);
    expect(Buffer.from(file.key.fields.pk ?? []).equals(pk)).toBe(true);
    expect(Buffer.from(file.key.fields.sk ?? []).equals(sk)).toBe(true);
    const short = Buffer.concat([string(type), string(pk), string(sk.subarray(1))]);
    expect(await codeOf(handMade({ publicBlob, privatePart: short }))).toBe('malformed');
  });

  it('is read for both kinds of security key', async () => {
    const rest = Buffer.concat([Buffer.from([1]), string('handle'), string('')]);
    const ed = Buffer.concat([string('sk-ssh-ed25519@openssh.com'), string(Buffer.alloc(32, 9)), string('ssh:')]);
    const point = Buffer.concat([Buffer.from([4]), Buffer.alloc(64, 8)]);
    const ec = Buffer.concat([
      string('sk-ecdsa-sha2-nistp256@openssh.com'),
      string('nistp256'),
      string(point),
      string('ssh:x'),
    ]);
    for (const publicBlob of [ed, ec]) {
      const file = await read(handMade({ publicBlob, privatePart: Buffer.concat([publicBlob, rest]) }));
      expect(file.key.fields.flags).toEqual(Uint8Array.of(1));
      expect(Buffer.from(file.key.fields.keyHandle ?? []).toString()).toBe('handle');
      expect(file.key.fields.reserved?.length).toBe(0);
      expect(Buffer.from(file.publicBlob).equals(publicBlob)).toBe(true);
    }
  });

  const seed = Buffer.alloc(32, 1);
  const pk = Buffer.from('8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c', 'hex');
  const publicBlob = Buffer.concat([string('ssh-ed25519'), string(pk)]);
  const privatePart = Buffer.concat([publicBlob, string(Buffer.concat([seed, pk]))]);
  const good: Parts = { publicBlob, privatePart };
  const foreign = Buffer.concat([string('ssh-ed25519'), string(Buffer.alloc(32, 2))]);
  const typed = (type: string): Parts => ({
    publicBlob: Buffer.concat([string(type), string('x')]),
    privatePart: Buffer.concat([string(type), string('x')]),
  });
  const bcryptOptions = Buffer.concat([string(Buffer.alloc(16, 1)), u32(1)]);

  it('made by hand is read', async () => {
    await expectKey(await read(handMade(good)), 'ssh-ed25519', publicBlob);
  });

  it.each<[what: string, parts: Parts, code: string]>([
    ['two keys', { ...good, count: 2 }, 'malformed'],
    ['no key', { ...good, count: 0 }, 'malformed'],
    ['check numbers that differ', { ...good, checks: [1, 2] }, 'malformed'],
    ['padding that does not count up', { ...good, padding: Buffer.from([1, 2, 4]) }, 'malformed'],
    ['a private section of no whole blocks', { ...good, padding: Buffer.from([1]) }, 'malformed'],
    ['bytes after the private section', { ...good, after: Buffer.from([0]) }, 'malformed'],
    ['a tag where nothing is encrypted', { ...good, after: Buffer.alloc(16) }, 'malformed'],
    ['a NUL inside the comment', { ...good, comment: 'a\0b' }, 'malformed'],
    ['another public half', { ...good, publicBlob: foreign }, 'mismatch'],
    [
      'a private half with the public part of another',
      { publicBlob, privatePart: Buffer.concat([publicBlob, string(Buffer.concat([seed, Buffer.alloc(32, 2)]))]) },
      'mismatch',
    ],
    ['a short secret', { publicBlob, privatePart: Buffer.concat([publicBlob, string(seed)]) }, 'malformed'],
    ['a cipher without key derivation', { ...good, cipher: 'aes256-ctr' }, 'malformed'],
    ['key derivation without a cipher', { ...good, kdf: 'bcrypt', options: bcryptOptions }, 'malformed'],
    ['an unknown cipher', { ...good, cipher: 'rot13', kdf: 'bcrypt', options: bcryptOptions }, 'unsupported'],
    ['an unknown key derivation', { ...good, cipher: 'aes256-ctr', kdf: 'md5', options: bcryptOptions }, 'unsupported'],
    ['an XMSS key', typed('ssh-xmss@openssh.com'), 'unknown-type'],
    ['an Ed448 key', typed('ssh-ed448'), 'unknown-type'],
    ['a DSA key', typed('ssh-dss'), 'unknown-type'],
    ['a type nobody knows', typed('ssh-\x1b[31mred'), 'unknown-type'],
    ['an empty public half', { ...good, publicBlob: Buffer.alloc(0) }, 'malformed'],
  ])('with %s is refused', async (_, parts, code) => {
    const bytes = handMade(parts);
    expect(await codeOf(bytes)).toBe(code);
    const message = await messageOf(bytes);
    expect([...message].every((character) => character >= ' ')).toBe(true);
  });

  it.each([
    ['no rounds', 0],
    ['more rounds than anybody has time for', 0x7fffffff],
  ])('that asks for %s of bcrypt is refused', async (_, rounds) => {
    const encrypted = unarmoured(changed('ed25519', `bounds${rounds}`, '-N', pass, '-a', '1'));
    const at = encrypted.indexOf(Buffer.from('bcrypt')) + 6 + 4 + 4 + 16;
    expect(encrypted.readUInt32BE(at)).toBe(1);
    encrypted.writeUInt32BE(rounds, at);
    expect(await codeOf(armoured(encrypted), pass)).toBe('out-of-bounds');
  });

  it('of DSA is refused by name, before any passphrase is asked for', async () => {
    run('ssh-keygen', '-q', '-t', 'dsa', '-N', pass, '-a', '1', '-f', 'dsa');
    expect(await codeOf(content('dsa'))).toBe('unknown-type');
    expect(await messageOf(content('dsa'))).toMatch(/DSA.*OpenSSH dropped/);
  });

  it('cut anywhere, or with any byte changed, ends in a KeyError or in the same public key', async () => {
    const whole = content('ed25519');
    const blob = Buffer.from(publicBlobOfKeyFile(whole) ?? []);
    for (let length = 0; length < whole.length - '-----END OPENSSH PRIVATE KEY-----\n'.length; length++)
      expect(await codeOf(whole.subarray(0, length))).toMatch(/^(malformed|unsupported)$/);
    for (let at = 0; at < whole.length; at++) {
      const bent = Uint8Array.from(whole);
      bent[at] = (bent[at] as number) ^ (1 << (at % 8));
      const code = await codeOf(bent);
      expect(code).not.toMatch(/^not a KeyError/);
      if (code === 'read') expect(blob.equals((await read(bent)).publicBlob)).toBe(true);
    }
  });

  it('encrypted and then damaged anywhere ends in a KeyError, for a cipher with and without a tag', async () => {
    for (const cipher of ['aes128-gcm@openssh.com', 'chacha20-poly1305@openssh.com', 'aes256-ctr']) {
      const whole = unarmoured(changed('ed25519', `bent-${cipher}`, '-N', pass, '-a', '1', '-Z', cipher));
      const rounds = whole.indexOf(Buffer.from('bcrypt')) + 6 + 4 + 4 + 16;
      for (let at = 0; at < whole.length; at += 3) {
        // Bits that only make it take longer prove nothing here.
        if (at >= rounds + 2 && at < rounds + 4) continue;
        const bent = Buffer.from(whole);
        bent[at] = (bent[at] as number) ^ (1 << (at % 8));
        const code = await codeOf(armoured(bent), pass);
        expect(code).not.toMatch(/^not a KeyError/);
        // In counter mode without a tag a changed bit of the seed is a changed bit of the seed.
        if (cipher !== 'aes256-ctr') expect(code).not.toBe('read');
      }
    }
  });
});

describe('a private key in PEM form', () => {
  it.each(['rsa', 'p256', 'p384', 'p521'])(
    'is read as ssh-keygen writes it: %s, PKCS#1 or SEC1, and PKCS#8',
    async (name) => {
      const type = types.find(([known]) => known === name)?.[1] ?? '';
      for (const form of ['PEM', 'PKCS8']) {
        const plain = changed(name, `${name}.${form}`, '-m', form, '-N', '');
        const file = await read(plain);
        await expectKey(file, type, blobBySshKeygen(name));
        expect(file.comment).toBe('');
        expect(publicBlobOfKeyFile(plain)).toBeUndefined();
        const encrypted = changed(name, `${name}.${form}.enc`, '-m', form, '-N', pass);
        await expectKey(await read(encrypted, pass), type, blobBySshKeygen(name));
        expect(await codeOf(encrypted, 'wrong')).toBe('wrong-passphrase');
        expect(await codeOf(encrypted)).toBe('needs-passphrase');
      }
    },
  );

  it.each(['aes128', 'aes192', 'aes256', 'des3'])('is read with the older encryption by %s', async (cipher) => {
    changed('rsa', 'legacy.in', '-m', 'PEM', '-N', '');
    run(
      'openssl',
      'rsa',
      '-traditional',
      `-${cipher}`,
      '-passout',
      `pass:${pass}`,
      '-in',
      'legacy.in',
      '-out',
      'legacy',
    );
    expect(Buffer.from(content('legacy')).toString()).toContain('Proc-Type: 4,ENCRYPTED');
    await expectKey(await read(content('legacy'), pass), 'ssh-rsa', blobBySshKeygen('rsa'));
    expect(await codeOf(content('legacy'), 'wrong')).toBe('wrong-passphrase');
    expect(await codeOf(content('legacy'))).toBe('needs-passphrase');
  });

  it('is read as Ed25519 in PKCS#8, plain and encrypted by PBKDF2 or scrypt', async () => {
    run('openssl', 'genpkey', '-algorithm', 'ed25519', '-out', 'ed.pem');
    const der = execFileSync('openssl', ['pkey', '-in', path('ed.pem'), '-pubout', '-outform', 'DER']);
    const blob = Buffer.concat([string('ssh-ed25519'), string(der.subarray(-32))]);
    await expectKey(await read(content('ed.pem')), 'ssh-ed25519', blob);
    for (const how of [
      ['-v2', 'aes-256-cbc', '-iter', '4096'],
      ['-scrypt'],
      ['-v2', 'des3', '-v2prf', 'hmacWithSHA512'],
    ]) {
      run('openssl', 'pkcs8', '-topk8', ...how, '-passout', `pass:${pass}`, '-in', 'ed.pem', '-out', 'ed.enc');
      await expectKey(await read(content('ed.enc'), pass), 'ssh-ed25519', blob);
      expect(await codeOf(content('ed.enc'), 'wrong')).toBe('wrong-passphrase');
    }
  });

  it('is read from a file with EC PARAMETERS, a certificate, or text before the key, and with CR LF', async () => {
    run('openssl', 'ecparam', '-name', 'prime256v1', '-genkey', '-out', 'params.pem');
    const text = Buffer.from(content('params.pem')).toString();
    expect(text).toContain('BEGIN EC PARAMETERS');
    execFileSync('chmod', ['600', path('params.pem')]);
    const blob = blobBySshKeygen('params.pem');
    for (const variant of [text, text.replaceAll('\n', '\r\n'), `Bag Attributes\n    friendlyName: x\n\n${text}`])
      await expectKey(await read(utf8(variant)), 'ecdsa-sha2-nistp256', blob);
  });

  it('is read where the public point is missing or compressed', async () => {
    run('openssl', 'ecparam', '-name', 'secp384r1', '-genkey', '-noout', '-out', 'full.pem');
    execFileSync('chmod', ['600', path('full.pem')]);
    run('openssl', 'ec', '-in', 'full.pem', '-no_public', '-out', 'nopublic.pem');
    run('openssl', 'ec', '-in', 'full.pem', '-conv_form', 'compressed', '-out', 'compressed.pem');
    expect(content('compressed.pem').length).toBeLessThan(content('full.pem').length);
    for (const name of ['nopublic.pem', 'compressed.pem'])
      await expectKey(await read(content(name)), 'ecdsa-sha2-nistp384', blobBySshKeygen('full.pem'));
  });

  it('that asks for too many iterations is refused at once', async () => {
    run('openssl', 'genpkey', '-algorithm', 'ed25519', '-out', 'it.pem');
    run('openssl', 'pkcs8', '-topk8', '-iter', '4096', '-passout', `pass:${pass}`, '-in', 'it.pem', '-out', 'it.enc');
    const body = Buffer.from(
      Buffer.from(content('it.enc'))
        .toString()
        .replace(/-----.*-----/g, ''),
      'base64',
    );
    // INTEGER 4096 becomes INTEGER 2^31 - 1, and each length around it grows by two; openssl 3 writes short lengths.
    const at = body.indexOf(Buffer.from('02021000', 'hex'));
    expect(at).toBeGreaterThan(0);
    const grown = Buffer.concat([body.subarray(0, at), Buffer.from('02047fffffff', 'hex'), body.subarray(at + 4)]);
    for (let i = 0; i < at; i++) {
      const [tag, length] = [grown[i], grown[i + 1] as number];
      const isLong = length === 0x81;
      const end = i + 2 + (isLong ? 1 + (grown[i + 2] as number) : length);
      if (tag === 0x30 && end > at && end <= body.length)
        grown[isLong ? i + 2 : i + 1] = ((isLong ? grown[i + 2] : length) as number) + 2;
    }
    const pem = `-----BEGIN ENCRYPTED PRIVATE KEY-----\n${grown.toString('base64')}\n-----END ENCRYPTED PRIVATE KEY-----\n`;
    expect(await codeOf(utf8(pem), pass)).toBe('out-of-bounds');
  });

  it.each([
    ['DSA', /DSA.*OpenSSH dropped/, ['ssh-keygen', '-q', '-t', 'dsa', '-m', 'PEM', '-N', '', '-f', 'OUT']],
    ['DSA', /DSA.*OpenSSH dropped/, ['ssh-keygen', '-q', '-t', 'dsa', '-m', 'PKCS8', '-N', '', '-f', 'OUT']],
    ['Ed448', /Ed448/, ['openssl', 'genpkey', '-algorithm', 'ed448', '-out', 'OUT']],
    ['X25519', /x25519/, ['openssl', 'genpkey', '-algorithm', 'x25519', '-out', 'OUT']],
    ['secp256k1', /secp256k1/, ['openssl', 'ecparam', '-name', 'secp256k1', '-genkey', '-noout', '-out', 'OUT']],
  ])('of type %s is refused by name', async (name, words, [program = '', ...args]) => {
    const out = `refused-${name}-${args.includes('PKCS8')}`;
    run(program, ...args.map((arg) => (arg === 'OUT' ? out : arg)));
    expect(await codeOf(content(out))).toBe('unknown-type');
    expect(await messageOf(content(out))).toMatch(words);
  });

  it('of RSA below 1024 bits is refused', async () => {
    run('openssl', 'genrsa', '-traditional', '-out', 'small.pem', '768');
    expect(await codeOf(content('small.pem'))).toBe('out-of-bounds');
  });

  it('with a cipher that OpenSSL has given up is refused by name', async () => {
    const text = Buffer.from(changed('rsa', 'idea', '-m', 'PEM', '-N', pass)).toString();
    const message = await messageOf(utf8(text.replace(/DEK-Info: [^,]+/, 'DEK-Info: IDEA-CBC')), pass);
    expect(message).toContain('IDEA-CBC');
  });

  it('cut or changed anywhere ends in a KeyError or a key', async () => {
    for (const [name, phrase] of [
      ['p256.PEM', undefined],
      ['p256.PKCS8.enc', pass],
      ['p256.PEM.enc', pass],
    ] as const) {
      const form = name.includes('PKCS8') ? 'PKCS8' : 'PEM';
      const whole = changed('p256', `fuzz-${name}`, '-m', form, '-N', phrase ?? '');
      const end = Buffer.from(whole).indexOf('-----END');
      for (let length = 0; length <= end; length += 2)
        expect(await codeOf(whole.subarray(0, length), phrase)).toMatch(/^(malformed|wrong-passphrase)$/);
      for (let at = 0; at < whole.length; at++) {
        const bent = Uint8Array.from(whole);
        bent[at] = (bent[at] as number) ^ (1 << (at % 8));
        expect(await codeOf(bent, phrase)).not.toMatch(/^not a KeyError/);
      }
    }
  });
});

describe('a file that is no private key', () => {
  const certified = (): Uint8Array => {
    run('ssh-keygen', '-q', '-s', 'p256', '-I', 'id', '-n', 'me', 'ed25519.pub');
    return content('ed25519-cert.pub');
  };
  const x509 = (): Uint8Array => {
    run(
      'openssl',
      'req',
      '-x509',
      '-newkey',
      'ed25519',
      '-nodes',
      '-keyout',
      'x.key',
      '-subj',
      '/CN=x',
      '-out',
      'x.pem',
    );
    return content('x.pem');
  };
  const bare = (): string => Buffer.from(content('ed25519')).toString();
  it.each<[what: string, words: string, make: () => Uint8Array]>([
    ['a public key', 'this is a public key', () => content('rsa.pub')],
    ['a known_hosts line', 'this is a public key', () => utf8(`host ${readFileSync(path('rsa.pub'), 'utf8')}`)],
    ['a certificate', 'this is a certificate', certified],
    ['a PEM certificate', 'this is a PEM certificate', x509],
    [
      'a PEM public key',
      'this is a PEM public key',
      () => utf8(run('ssh-keygen', '-e', '-m', 'PKCS8', '-f', 'rsa.pub')),
    ],
    ['an RFC 4716 public key', 'this is a public key (RFC 4716)', () => utf8(run('ssh-keygen', '-e', '-f', 'rsa.pub'))],
    ['an ssh.com private key', "ssh.com's form", () => utf8('---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nx\n')],
    ['an OpenPGP key', 'OpenPGP', () => utf8('-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nx\n')],
    [
      'an SSH signature',
      'SSH signature',
      () => utf8('-----BEGIN SSH SIGNATURE-----\nx\n-----END SSH SIGNATURE-----\n'),
    ],
    ['nothing', 'the file is empty', () => new Uint8Array(0)],
    ['only white space', 'the file is empty', () => utf8(' \r\n\n')],
    ['a blank before the marker', 'white space', () => utf8(` ${bare()}`)],
    ['a blank line before the marker', 'white space', () => utf8(`\n${bare()}`)],
    ['text before the marker', 'text before the BEGIN', () => utf8(`my key\n${bare()}`)],
    ['a byte order mark', 'byte order mark', () => utf8(`\ufeff${bare()}`)],
    ['UTF-16', 'UTF-16', () => new Uint8Array(Buffer.from(`\ufeff${bare()}`, 'utf16le'))],
    ['DER', 'binary', () => Uint8Array.of(0x30, 0x82, 1, 2)],
    ['anything else', 'no private key', () => utf8('Lorem ipsum\n')],
    ['a key without its END line', 'END line', () => utf8(bare().replace(/-----END.*/, ''))],
    ['PEM without its END line', 'END line', () => utf8('-----BEGIN PRIVATE KEY-----\nAAAA\n')],
  ])('but %s is told so', async (_, words, make) => {
    expect(await codeOf(make())).toBe('malformed');
    expect(await messageOf(make())).toContain(words);
  });

  it('or is one of SSH protocol 1 is told so', async () => {
    expect(await codeOf(utf8('SSH PRIVATE KEY FILE FORMAT 1.1\n\0\0'))).toBe('unknown-type');
  });

  it('or is too large to be one is refused by its size', async () => {
    expect(await codeOf(new Uint8Array(MAX_KEY_FILE_BYTES + 1))).toBe('out-of-bounds');
    expect(await codeOf(new Uint8Array(MAX_KEY_FILE_BYTES))).toBe('malformed');
  });
});
