/** A browser's signatures with a security key: one that a browser made, and others made by hand that ssh-keygen judges too. */
import { spawnSync } from 'node:child_process';
import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parsePublicKey } from '../../../src/keys/publickey.ts';
import { signatureName, verifySignature } from '../../../src/keys/signature.ts';
import { flipped, join8, mpint, string, strings, temporaryFolder } from './keygen.ts';

const SK_ECDSA = 'sk-ecdsa-sha2-nistp256@openssh.com';
const WEBAUTHN = 'webauthn-sk-ecdsa-sha2-nistp256@openssh.com';
const WEBAUTHN_CERTIFICATE = 'webauthn-sk-ecdsa-sha2-nistp256-cert-v01@openssh.com';

const folder = temporaryFolder();
const sha = (name: string, data: string | Uint8Array): Buffer => createHash(name).update(data).digest();

/** What an SSHSIG of `message` signs (PROTOCOL.sshsig section 3). */
const signedBy = (namespace: string, message: string): Uint8Array =>
  join8(Buffer.from('SSHSIG'), string(namespace), string(''), string('sha512'), string(sha('sha512', message)));

describe("a browser's signature, of the test data that come with OpenSSH's source", () => {
  // regress/unittests/sshsig/testdata/ecdsa_sk_webauthn.sig, whose namespace and message are two files beside it.
  const file = Buffer.from(
    'U1NIU0lHAAAAAQAAAIYAAAAic2stZWNkc2Etc2hhMi1uaXN0cDI1NkBvcGVuc3NoLmNvbQAAAAhuaXN0cDI1NgAAAEEEFEbAOOzgeEkVyfi0' +
      'nkavvYpyZGYJLU6KsRPFpe+ew0CmCg4sXVr/uvGV19Iwebvd5PWeEd73tbyqJw88QAoMlAAAAAttaW5kcm90Lm9yZwAAAAh1bml0dGVzdAAA' +
      'AAAAAAAGc2hhNTEyAAABhwAAACt3ZWJhdXRobi1zay1lY2RzYS1zaGEyLW5pc3RwMjU2QG9wZW5zc2guY29tAAAASQAAACBj2oMT9tb5wRXe' +
      '6mdmf4/lgAO8wrgr95ouozwNg4itnQAAACEAtU9g5wz3HchUiLfLD6plr9T4TiJ32lVCrATSjpiy0SMBAAADHwAAABdodHRwczovL3d3dy5t' +
      'aW5kcm90Lm9yZwAAAON7InR5cGUiOiJ3ZWJhdXRobi5nZXQiLCJjaGFsbGVuZ2UiOiJVMU5JVTBsSEFBQUFDSFZ1YVhSMFpYTjBBQUFBQUFB' +
      'QUFBWnphR0UxTVRJQUFBQkFMTHU4WmdjU3h0Nk1zRlV6dWlaZ0c2R3dNZEo5ZDd4ZUU3WW9SSXcwZzlpSEpfd3NGRDcxbzRXbHllenZGV0Vq' +
      'YnFRMHFDN0Z3R3Bqa2pVUVAtTmQ2dyIsIm9yaWdpbiI6Imh0dHBzOi8vd3d3Lm1pbmRyb3Qub3JnIiwiY3Jvc3NPcmlnaW4iOmZhbHNlfQAA' +
      'AAA=',
    'base64',
  );
  const [blob, , , , signature] = strings(file.subarray(10)).map((part) => Uint8Array.from(part));
  const key = parsePublicKey(blob ?? file);
  const data = signedBy('unittest', 'This is a test, this is only a test');

  it('holds, for this message alone, and with no byte changed', () => {
    const made = signature ?? new Uint8Array();
    expect(signatureName(made)).toBe(WEBAUTHN);
    expect(verifySignature(key, data, made)).toBe(true);
    expect(verifySignature(key, signedBy('file', 'This is a test, this is only a test'), made)).toBe(false);
    for (let index = 0; index < made.length; index++)
      expect(verifySignature(key, data, flipped(made, index))).toBe(false);
    for (let length = 0; length < made.length; length++)
      expect(verifySignature(key, data, made.subarray(0, length))).toBe(false);
  });
});

const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const { x = '', y = '' } = publicKey.export({ format: 'jwk' });
const APPLICATION = 'login.example';
const blob = join8(
  string(SK_ECDSA),
  string('nistp256'),
  string(Uint8Array.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')),
  string(APPLICATION),
);
const key = parsePublicKey(blob);
const MESSAGE = 'a message';
const DATA = signedBy('file', MESSAGE);
const ORIGIN = 'https://login.example';

interface Parts {
  readonly name: string;
  readonly flags: number;
  readonly origin: string;
  readonly clientData: string;
  readonly extensions: string;
  readonly rest: string;
  /** What the device was given, where that is not what the signature says. */
  readonly signedExtensions: string;
  readonly application: string;
}

const clientDataFor = (challenge: Uint8Array, origin = ORIGIN): string =>
  `{"type":"webauthn.get","challenge":"${Buffer.from(challenge).toString('base64url')}","origin":"${origin}"`;

/** A browser's signature of DATA, right in all but what `change` says: each is signed as it stands. */
function signature(change: Partial<Parts> = {}): Uint8Array {
  const origin = change.origin ?? ORIGIN;
  const clientData = change.clientData ?? `${clientDataFor(DATA, origin)},"crossOrigin":false}`;
  const extensions = change.extensions ?? '';
  const flagsAndCounter = Uint8Array.of(change.flags ?? 1, 0, 0, 3, 0x1f);
  const asserted = Buffer.concat([
    sha('sha256', change.application ?? APPLICATION),
    flagsAndCounter,
    Buffer.from(change.signedExtensions ?? extensions),
    sha('sha256', clientData),
  ]);
  const rs = sign('sha256', asserted, { key: privateKey, dsaEncoding: 'ieee-p1363' });
  return join8(
    string(change.name ?? WEBAUTHN),
    string(mpint(rs.subarray(0, 32)), mpint(rs.subarray(32))),
    flagsAndCounter,
    string(origin),
    string(clientData),
    string(extensions),
    Buffer.from(change.rest ?? ''),
  );
}

/** What the system's ssh-keygen says of a signature of MESSAGE. */
function holdsForKeygen(made: Uint8Array): boolean {
  const armed = join8(
    Buffer.from('SSHSIG\0\0\0\u0001'),
    string(blob),
    string('file'),
    string(''),
    string('sha512'),
    string(made),
  );
  const lines =
    Buffer.from(armed)
      .toString('base64')
      .match(/.{1,70}/g) ?? [];
  const [file, signers] = [join(folder, 'm.sig'), join(folder, 'signers')];
  writeFileSync(file, `-----BEGIN SSH SIGNATURE-----\n${lines.join('\n')}\n-----END SSH SIGNATURE-----\n`);
  writeFileSync(signers, `alice ${SK_ECDSA} ${Buffer.from(blob).toString('base64')}\n`);
  const args = ['-Y', 'verify', '-f', signers, '-I', 'alice', '-n', 'file', '-s', file];
  const { status, error } = spawnSync('ssh-keygen', args, { input: MESSAGE, encoding: 'utf8' });
  if (error) throw error;
  return status === 0;
}

describe('a signature that a browser would make', () => {
  it.each<[string, boolean, Partial<Parts>]>([
    ['as it should be', true, {}],
    ['with nothing after the origin', true, { clientData: clientDataFor(DATA) }],
    ['with more after the origin', true, { clientData: `${clientDataFor(DATA)},"crossOrigin":true,"x":[1]}` }],
    ['from another origin, which it names', true, { origin: 'http://localhost:8080' }],
    ['from no origin', true, { origin: '' }],
    ['without presence, which is not judged here', true, { flags: 0 }],
    ['with verification', true, { flags: 0x05 }],
    ['with extensions', true, { flags: 0x81, extensions: '\u00a1\u0063abc\u00f5' }],
    ['with extensions that no flag tells of', false, { extensions: 'abc' }],
    ['with a flag for extensions that are not there', false, { flags: 0x81 }],
    ['with other extensions than were signed', false, { flags: 0x81, extensions: 'abc', signedExtensions: 'abd' }],
    ['with attested data', false, { flags: 0x41 }],
    ['with attested data and extensions', false, { flags: 0xc1, extensions: 'abc' }],
    ['with another challenge', false, { clientData: `${clientDataFor(signedBy('file', 'another'))}}` }],
    ['with a challenge that goes on', false, { clientData: `${clientDataFor(join8(DATA, DATA))}}` }],
    ['with the hash of the data for a challenge', false, { clientData: `${clientDataFor(sha('sha256', DATA))}}` }],
    ['with a padded challenge', false, { clientData: `${clientDataFor(DATA).replace('","origin', '=","origin')}}` }],
    [
      'with a challenge in plain base64',
      false,
      {
        clientData: `{"type":"webauthn.get","challenge":"${Buffer.from(DATA).toString('base64')}","origin":"${ORIGIN}"}`,
      },
    ],
    [
      'with another origin in what was signed',
      false,
      { clientData: `${clientDataFor(DATA, 'https://evil.example')}}` },
    ],
    ['with an origin that goes on', false, { clientData: `${clientDataFor(DATA, `${ORIGIN}.evil`)}}` }],
    ['with a quotation mark in the origin', false, { origin: 'https://a","x":"b' }],
    ['that enrolled a key', false, { clientData: `${clientDataFor(DATA).replace('.get', '.create')}}` }],
    ['with blanks in its JSON', false, { clientData: `${clientDataFor(DATA).replace('":"', '": "')}}` }],
    [
      'with its fields in another order',
      false,
      { clientData: `{"origin":"${ORIGIN}",${clientDataFor(DATA).slice(1)}}` },
    ],
    ['with nothing for JSON', false, { clientData: '' }],
    ['that is cut short in its JSON', false, { clientData: clientDataFor(DATA).slice(0, -1) }],
    ['for another application', false, { application: 'ssh:' }],
    ['with a byte after it', false, { rest: '\0' }],
    ['under the plain name', false, { name: SK_ECDSA }],
    ['under a name that is none', false, { name: 'webauthn-sk-ssh-ed25519@openssh.com' }],
  ])('%s: %s, as ssh-keygen has it', (_, holds, change) => {
    const made = signature(change);
    expect(verifySignature(key, DATA, made)).toBe(holds);
    expect(holdsForKeygen(made)).toBe(holds);
  });

  it("may go by the certificate's name, as since OpenSSH 10.3", () => {
    expect(verifySignature(key, DATA, signature({ name: WEBAUTHN_CERTIFICATE }))).toBe(true);
    const other = signature({ name: WEBAUTHN_CERTIFICATE, clientData: `${clientDataFor(Buffer.from('x'))}}` });
    expect(verifySignature(key, DATA, other)).toBe(false);
  });

  it('is none without its origin and what follows', () => {
    const whole = signature();
    const [name = whole, rs = whole] = strings(whole);
    expect(verifySignature(key, DATA, join8(string(name), string(rs), Uint8Array.of(1, 0, 0, 3, 0x1f)))).toBe(false);
  });

  it('is none of a key of another type', () => {
    const ed25519 = parsePublicKey(
      join8(string('sk-ssh-ed25519@openssh.com'), string(Buffer.from(x, 'base64url')), string(APPLICATION)),
    );
    expect(verifySignature(ed25519, DATA, signature())).toBe(false);
    const plain = join8(
      string('ecdsa-sha2-nistp256'),
      string('nistp256'),
      string(Uint8Array.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')),
    );
    expect(verifySignature(parsePublicKey(plain), DATA, signature())).toBe(false);
  });
});

it('a host certificate signed by a browser is one', () => {
  const subject = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }).x ?? '';
  const times = [Buffer.alloc(8), Buffer.alloc(8, 0xff)];
  const unsigned = Buffer.concat([
    string('ssh-ed25519-cert-v01@openssh.com'),
    string(Buffer.alloc(32)),
    string(Buffer.from(subject, 'base64url')),
    Buffer.alloc(8),
    Buffer.from([0, 0, 0, 2]),
    string('id'),
    string(string('host.example')),
    ...times,
    string(''),
    string(''),
    string(''),
    string(blob),
  ]);
  const made = signature({ clientData: `${clientDataFor(unsigned)}}` });
  const whole = join8(unsigned, string(made));
  expect(parsePublicKey(whole).certificate).toMatchObject({ keyId: 'id', signatureAlgorithm: WEBAUTHN });
  const file = join(folder, 'host-cert.pub');
  writeFileSync(file, `ssh-ed25519-cert-v01@openssh.com ${Buffer.from(whole).toString('base64')}\n`);
  const shown = spawnSync('ssh-keygen', ['-L', '-f', file], { encoding: 'utf8' });
  expect(shown.stdout).toContain(`(using ${WEBAUTHN})`);
  expect(() => parsePublicKey(join8(unsigned, string(signature())))).toThrow('not signed by the authority');
});
