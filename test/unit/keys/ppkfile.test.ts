import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KeyError } from '../../../src/keys/error.ts';
import {
  commentOfKeyFile,
  type PrivateKeyFile,
  publicBlobOfKeyFile,
  readPrivateKeyFile,
} from '../../../src/keys/keyfile.ts';
import { utf8 } from '../../../src/wire/bytes.ts';
import { expectHalvesToFit } from './keymath.ts';

const pass = 'correct horse';
let folder: string;

const path = (name: string): string => join(folder, name);
const run = (program: string, ...args: string[]): string =>
  execFileSync(program, args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const content = (name: string): Uint8Array => new Uint8Array(readFileSync(path(name)));
const lineOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
const read = (bytes: Uint8Array, phrase?: string): Promise<PrivateKeyFile> =>
  Promise.resolve(readPrivateKeyFile(bytes, phrase === undefined ? undefined : utf8(phrase)));

async function codeOf(bytes: Uint8Array, phrase?: string): Promise<string> {
  try {
    (await read(bytes, phrase)).wipe();
    return 'read';
  } catch (error) {
    return error instanceof KeyError ? error.code : `not a KeyError: ${error}`;
  }
}

const types: readonly [name: string, type: string, ...args: string[]][] = [
  ['ed25519', 'ssh-ed25519', '-t', 'ed25519'],
  ['p256', 'ecdsa-sha2-nistp256', '-t', 'ecdsa', '-b', '256'],
  ['p384', 'ecdsa-sha2-nistp384', '-t', 'ecdsa', '-b', '384'],
  ['p521', 'ecdsa-sha2-nistp521', '-t', 'ecdsa', '-b', '521'],
  ['rsa', 'ssh-rsa', '-t', 'rsa', '-b', '1024'],
];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'latchkey-ppkfile-'));
  writeFileSync(path('pass'), pass);
  writeFileSync(path('none'), '');
  for (const [name, , ...args] of types) run('ssh-keygen', '-q', ...args, '-N', '', '-C', 'c', '-f', name);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The key `name` as PuTTY writes it, with the parameters given. */
function ppk(name: string, phrase: 'pass' | 'none', parameters: string, comment = 'a comment '): Uint8Array {
  const out = `${name}.${phrase}.ppk`;
  run(
    'puttygen',
    name,
    '-O',
    'private',
    '-o',
    out,
    '-C',
    comment,
    '--new-passphrase',
    phrase,
    '--ppk-param',
    parameters,
  );
  return content(out);
}

const blobOf = (name: string): Buffer =>
  Buffer.from(readFileSync(path(`${name}.pub`), 'utf8').split(' ')[1] ?? '', 'base64');

describe("a private key in PuTTY's form", () => {
  const cheap = 'memory=64,passes=2';
  for (const [version, parameters] of [
    ['2', 'version=2'],
    ['3', `version=3,${cheap}`],
  ] as const) {
    it.each(types)(`is read as %s in version ${version}, plain and encrypted`, async (name, type) => {
      const plain = ppk(name, 'none', parameters);
      const encrypted = ppk(name, 'pass', parameters);
      expect(lineOf(plain)).toContain(`PuTTY-User-Key-File-${version}: ${type}`);
      expect(lineOf(encrypted)).toContain('Encryption: aes256-cbc');
      for (const [bytes, phrase] of [
        [plain, undefined],
        [encrypted, pass],
      ] as const) {
        const file = await read(bytes, phrase);
        expect(file.key.type).toBe(type);
        expect(file.comment).toBe('a comment ');
        expect(blobOf(name).equals(file.publicBlob)).toBe(true);
        expectHalvesToFit(type, file.key.fields);
        expect(publicBlobOfKeyFile(bytes)).toEqual(file.publicBlob);
        expect(commentOfKeyFile(bytes)).toBe('a comment ');
        file.wipe();
        for (const field of ['sk', 'd', 'iqmp', 'p', 'q'])
          if (field !== 'q' || type === 'ssh-rsa')
            expect(file.key.fields[field]?.every((byte) => byte === 0) ?? true).toBe(true);
      }
      expect(await codeOf(encrypted, 'wrong')).toBe('wrong-passphrase');
      expect(await codeOf(encrypted, '')).toBe('needs-passphrase');
      expect(await codeOf(encrypted)).toBe('needs-passphrase');
      expect(await codeOf(plain, 'whatever')).toBe('read');
    });
  }

  it.each(['argon2id', 'argon2i', 'argon2d'])(
    'is read where %s derives its key, also over several lanes',
    async (kdf) => {
      const bytes = ppk('ed25519', 'pass', `kdf=${kdf},memory=128,passes=3,parallelism=3`);
      expect(lineOf(bytes).toLowerCase()).toContain(`key-derivation: ${kdf}\n`);
      expectHalvesToFit('ssh-ed25519', (await read(bytes, pass)).key.fields);
      expect(await codeOf(bytes, 'wrong')).toBe('wrong-passphrase');
    },
  );

  it("is read with PuTTY's default cost", async () => {
    expect(await codeOf(ppk('p256', 'pass', 'passes=13'), pass)).toBe('read');
  });

  it('is read with CR LF, as PuTTY writes it on Windows, and with a comment beyond ASCII', async () => {
    const bytes = ppk('p256', 'pass', cheap, 'Schlüssel \u{1f511}');
    const windows = utf8(Buffer.from(bytes).toString().replaceAll('\n', '\r\n'));
    expect((await read(windows, pass)).comment).toBe('Schlüssel \u{1f511}');
  });

  it('that holds a certificate gives the plain key', async () => {
    run('ssh-keygen', '-q', '-s', 'rsa', '-I', 'id', '-n', 'me', 'ed25519.pub');
    run(
      'puttygen',
      'ed25519',
      '--certificate',
      'ed25519-cert.pub',
      '-O',
      'private',
      '-o',
      'cert.ppk',
      '--new-passphrase',
      'none',
    );
    expect(lineOf(content('cert.ppk'))).toContain('ssh-ed25519-cert-v01@openssh.com');
    const file = await read(content('cert.ppk'));
    expect(file.key.type).toBe('ssh-ed25519');
    expect(blobOf('ed25519').equals(file.publicBlob)).toBe(true);
    expect(publicBlobOfKeyFile(content('cert.ppk'))).toEqual(file.publicBlob);
    expectHalvesToFit('ssh-ed25519', file.key.fields);
  });

  it.each([
    ['dsa', ['-t', 'dsa', '-b', '1024'], /DSA/],
    ['ed448', ['-t', 'ed448'], /Ed448/],
  ] as const)('of type %s is refused by name', async (name, args, words) => {
    run('puttygen', '-q', ...args, '-o', `${name}.ppk`, '--new-passphrase', 'none');
    await expect(read(content(`${name}.ppk`))).rejects.toMatchObject({ code: 'unknown-type', message: words });
  });

  const replaced = (phrase: 'pass' | 'none', from: RegExp, to: string): Uint8Array => {
    const text = lineOf(ppk('ed25519', phrase, cheap));
    expect(text).toMatch(from);
    return new Uint8Array(Buffer.from(text.replace(from, to), 'latin1'));
  };

  it.each<[what: string, phrase: 'pass' | 'none', from: RegExp, to: string, code: string]>([
    ['version 1', 'none', /File-3/, 'File-1', 'unsupported'],
    ['a version to come', 'none', /File-3/, 'File-4', 'unsupported'],
    ['no version', 'none', /File-3[\s\S]*/, 'File-', 'unsupported'],
    ['another cipher', 'none', /Encryption: none/, 'Encryption: rot13', 'unsupported'],
    ['another derivation', 'pass', /Argon2id/, 'scrypt', 'unsupported'],
    ['a type that is not its own', 'none', /: ssh-ed25519/, ': ssh-rsa', 'malformed'],
    ['another comment', 'none', /Comment: a comment/, 'Comment: my comment', 'malformed'],
    ['another comment on an encrypted key', 'pass', /Comment: a comment/, 'Comment: my comment', 'wrong-passphrase'],
    ['a MAC that was cut', 'none', /(Private-MAC: \w{62})\w\w/, '$1', 'malformed'],
    ['a MAC of odd length', 'none', /(Private-MAC: \w{63})\w/, '$1', 'malformed'],
    ['no MAC', 'none', /Private-MAC.*\n/, '', 'malformed'],
    ['more lines than there are', 'none', /Private-Lines: 1/, 'Private-Lines: 999999999', 'malformed'],
    ['a count that is none', 'none', /Private-Lines: 1/, 'Private-Lines: -1', 'malformed'],
    ['no private lines', 'pass', /Private-Lines: \d+\n(.*\n)/, 'Private-Lines: 0\n', 'malformed'],
    ['memory beyond its bound', 'pass', /Memory: 64/, 'Memory: 1048577', 'out-of-bounds'],
    ['passes beyond their bound', 'pass', /Passes: 2/, 'Passes: 999999999', 'out-of-bounds'],
    ['no pass', 'pass', /Passes: 2/, 'Passes: 0', 'out-of-bounds'],
    ['no lanes', 'pass', /Parallelism: 1/, 'Parallelism: 0', 'out-of-bounds'],
    ['more lanes than memory', 'pass', /Parallelism: 1/, 'Parallelism: 9', 'out-of-bounds'],
    ['an empty salt', 'pass', /Salt: \w+/, 'Salt: ', 'out-of-bounds'],
  ])('with %s is refused', async (_, phrase, from, to, code) => {
    expect(await codeOf(replaced(phrase, from, to), pass)).toBe(code);
  });

  it('cut anywhere, or with any byte changed, ends in a KeyError', async () => {
    for (const [phrase, parameters] of [
      ['none', cheap],
      ['pass', 'version=2'],
      ['pass', cheap],
    ] as const) {
      const whole = ppk('ed25519', phrase, parameters);
      for (let length = 0; length < whole.length - 1; length += 3)
        expect(await codeOf(whole.subarray(0, length), pass)).toMatch(/^(malformed|unsupported|unknown-type)$/);
      for (let at = 0; at < whole.length - 1; at += 2) {
        const bent = Uint8Array.from(whole);
        bent[at] = (bent[at] as number) ^ (1 << (at % 8));
        const code = await codeOf(bent, pass);
        // The digits of the MAC may change their case.
        expect(code).toMatch(at >= lineOf(whole).indexOf('Private-MAC: ') ? /^(?!not)/ : /^(?!not|read)/);
      }
    }
  });
});
