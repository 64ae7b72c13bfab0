import { execFileSync, spawn } from 'node:child_process';
import { createHash, createPrivateKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parsePublicKey } from '../../../src/keys/publickey.ts';
import { signatureName, verifySignature } from '../../../src/keys/signature.ts';
import {
  blobOf,
  flipped,
  join8,
  keygen,
  makeKey,
  mpint,
  publicLine,
  string,
  strings,
  temporaryFolder,
  u32,
} from './keygen.ts';

const folder = temporaryFolder();
const message = Uint8Array.from(Buffer.from('what is to be signed'));

const files = {
  ed25519: makeKey(folder, 'ed25519', '-t', 'ed25519'),
  'ecdsa 256': makeKey(folder, 'ecdsa256', '-t', 'ecdsa', '-b', '256'),
  'ecdsa 384': makeKey(folder, 'ecdsa384', '-t', 'ecdsa', '-b', '384'),
  'ecdsa 521': makeKey(folder, 'ecdsa521', '-t', 'ecdsa', '-b', '521'),
  'rsa 1024': makeKey(folder, 'rsa1024', '-t', 'rsa', '-b', '1024', '-m', 'PEM'),
  'rsa 2048': makeKey(folder, 'rsa2048', '-t', 'rsa', '-b', '2048'),
} as const;

const read = (path: string) => parsePublicKey(blobOf(publicLine(path)));

/** OpenSSH's own agent, spoken to in bytes. */
const socket = join(folder, 'agent');
const agent = spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' });

function ask(request: Uint8Array): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const connection = createConnection(socket);
    let answer = Buffer.alloc(0);
    connection.on('error', reject);
    connection.on('data', (chunk) => {
      answer = Buffer.concat([answer, chunk]);
      if (answer.length < 4 || answer.length < 4 + answer.readUInt32BE()) return;
      connection.destroy();
      resolve(answer.subarray(4));
    });
    connection.write(string(request));
  });
}

async function agentSignature(blob: Uint8Array, flags: number): Promise<Uint8Array> {
  const answer = await ask(join8(Uint8Array.of(13), string(blob), string(message), u32(flags)));
  expect(answer[0]).toBe(14);
  return Uint8Array.from(strings(answer.subarray(1))[0] ?? []);
}

beforeAll(async () => {
  while (!existsSync(socket)) await pause(10);
  const authority = makeKey(folder, 'ca', '-t', 'ed25519');
  for (const path of Object.values(files)) {
    const certified = `${path}-c`;
    copyFileSync(path, certified);
    copyFileSync(`${path}.pub`, `${certified}.pub`);
    keygen('-q', '-s', authority, '-I', 'x', `${certified}.pub`);
    execFileSync('ssh-add', ['-q', certified], { env: { ...process.env, SSH_AUTH_SOCK: socket }, stdio: 'pipe' });
  }
});
afterAll(() => agent.kill());

describe.each(Object.entries(files))('a signature of %s by ssh-agent', (name, path) => {
  it.each(name.startsWith('rsa') ? [0, 2, 4, 6] : [0])(
    'with flags %i holds, for this key and message alone',
    async (flags) => {
      const key = read(path);
      const signature = await agentSignature(key.blob, flags);
      expect(verifySignature(key, message, signature)).toBe(true);
      // A second time the key is there already.
      expect(verifySignature(key, message, signature)).toBe(true);
      expect(verifySignature(key, flipped(message, 0), signature)).toBe(false);
      expect(verifySignature(key, new Uint8Array(), signature)).toBe(false);
      for (let index = 0; index < signature.length; index++)
        expect(verifySignature(key, message, flipped(signature, index))).toBe(false);
      for (let length = 0; length < signature.length; length += 7)
        expect(verifySignature(key, message, signature.subarray(0, length))).toBe(false);
      expect(verifySignature(key, message, join8(signature, Uint8Array.of(0)))).toBe(false);
      for (const other of Object.values(files))
        expect(verifySignature(read(other), message, signature)).toBe(other === path);
    },
  );

  it('through its certificate has the plain name, and holds', async () => {
    const key = read(`${path}-c-cert`);
    const signature = await agentSignature(key.blob, 4);
    expect(signatureName(signature)).toBe(name.startsWith('rsa') ? 'rsa-sha2-512' : key.algorithm.type);
    expect(verifySignature(key, message, signature)).toBe(true);
    expect(verifySignature(read(path), message, signature)).toBe(true);
    const [, raw = new Uint8Array()] = strings(signature);
    expect(verifySignature(key, message, join8(string(key.algorithm.certificateType), string(raw)))).toBe(false);
  });

  it('and one of ssh-keygen -Y sign holds', () => {
    const file = join(folder, 'signed');
    writeFileSync(file, message);
    rmSync(`${file}.sig`, { force: true });
    keygen('-q', '-Y', 'sign', '-n', 'file', '-f', path, file);
    const armour = readFileSync(`${file}.sig`, 'utf8')
      .split('\n')
      .filter((line) => !line.startsWith('---'));
    const [blob, namespace, reserved, hash, signature] = strings(Buffer.from(armour.join(''), 'base64').subarray(10));
    expect(Buffer.from(blob ?? []).toString('hex')).toBe(Buffer.from(read(path).blob).toString('hex'));
    const digest = createHash(Buffer.from(hash ?? []).toString())
      .update(message)
      .digest();
    const data = [namespace, reserved, hash, digest].map((field) => string(field ?? ''));
    expect(verifySignature(read(path), join8(Buffer.from('SSHSIG'), ...data), signature ?? message)).toBe(true);
  });
});

describe('an RSA signature', () => {
  const key = read(files['rsa 1024']);
  const privateKey = createPrivateKey(readFileSync(files['rsa 1024']));
  const blob = (raw: Uint8Array, name = 'rsa-sha2-256'): Uint8Array => join8(string(name), string(raw));

  it('that lost its leading zeros holds, and one with more of them does not', () => {
    // One of 256 begins with a zero byte.
    for (let i = 0; ; i++) {
      const data = Uint8Array.from(Buffer.from(`message ${i}`));
      const raw = sign('sha256', data, privateKey);
      if (raw[0] !== 0) continue;
      expect(verifySignature(key, data, blob(raw))).toBe(true);
      expect(verifySignature(key, data, blob(raw.subarray(1)))).toBe(true);
      expect(verifySignature(key, data, blob(join8(Uint8Array.of(0), raw)))).toBe(false);
      break;
    }
  });

  it('holds under the name of its own hash alone', () => {
    const hashes = { sha1: 'ssh-rsa', sha256: 'rsa-sha2-256', sha512: 'rsa-sha2-512' };
    for (const [hash, own] of Object.entries(hashes)) {
      const raw = sign(hash, message, privateKey);
      for (const name of Object.values(hashes))
        expect(verifySignature(key, message, blob(raw, name))).toBe(name === own);
      expect(verifySignature(key, message, blob(raw, 'ssh-ed25519'))).toBe(false);
      expect(verifySignature(key, message, blob(raw, 'rsa-sha2-512-cert-v01@openssh.com'))).toBe(false);
    }
  });

  it('of no bytes, or only zeros, does not hold', () => {
    expect(verifySignature(key, message, blob(new Uint8Array()))).toBe(false);
    expect(verifySignature(key, message, blob(new Uint8Array(128)))).toBe(false);
  });
});

describe('an ECDSA signature', () => {
  const key = read(files['ecdsa 256']);
  const blob = (...parts: readonly Uint8Array[]): Uint8Array => join8(string('ecdsa-sha2-nistp256'), string(...parts));
  const order = Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex');

  it('with another number after a good one does not hold', async () => {
    const good = await agentSignature(key.blob, 0);
    const [, numbers = new Uint8Array()] = strings(good);
    expect(verifySignature(key, message, blob(numbers))).toBe(true);
    expect(verifySignature(key, message, blob(numbers, mpint(Uint8Array.of(1))))).toBe(false);
    expect(verifySignature(key, message, blob(numbers, Uint8Array.of(0)))).toBe(false);
  });

  it.each<[string, Uint8Array]>([
    ['of zeros', blob(string(''), string(''))],
    ['of ones', blob(mpint(Uint8Array.of(1)), mpint(Uint8Array.of(1)))],
    ['of the order', blob(mpint(order), mpint(order))],
    ['of numbers that are too long', blob(mpint(Buffer.alloc(33, 1)), mpint(Buffer.alloc(33, 1)))],
    ['of negative numbers', blob(string(Buffer.alloc(32, 0xff)), string(Buffer.alloc(32, 0xff)))],
    ['with one number', blob(mpint(order))],
    ['with three numbers', blob(mpint(order), mpint(order), mpint(order))],
    ['of nothing', blob()],
  ])('%s does not hold', (_, signature) => {
    expect(verifySignature(key, message, signature)).toBe(false);
  });
});

describe('a signature of a security key', () => {
  const application = 'ssh:work';
  const ed25519 = generateKeyPairSync('ed25519');
  const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const coordinate = (name: 'x' | 'y', key: KeyObject): Buffer =>
    Buffer.from(key.export({ format: 'jwk' })[name] ?? '', 'base64url');
  const flagsAndCounter = Uint8Array.of(1, 0, 0, 1, 2);
  const sha256 = (data: string | Uint8Array): Buffer => createHash('sha256').update(data).digest();
  const asserted = join8(sha256(application), flagsAndCounter, sha256(message));

  const edKey = parsePublicKey(
    join8(string('sk-ssh-ed25519@openssh.com'), string(coordinate('x', ed25519.publicKey)), string(application)),
  );
  const point = [Uint8Array.of(4), coordinate('x', p256.publicKey), coordinate('y', p256.publicKey)];
  const ecKey = parsePublicKey(
    join8(string('sk-ecdsa-sha2-nistp256@openssh.com'), string('nistp256'), string(...point), string(application)),
  );
  const edSignature = join8(
    string('sk-ssh-ed25519@openssh.com'),
    string(sign(null, asserted, ed25519.privateKey)),
    flagsAndCounter,
  );
  const rs = sign('sha256', asserted, { key: p256.privateKey, dsaEncoding: 'ieee-p1363' });
  const ecSignature = join8(
    string('sk-ecdsa-sha2-nistp256@openssh.com'),
    string(mpint(rs.subarray(0, 32)), mpint(rs.subarray(32))),
    flagsAndCounter,
  );

  it.each([
    ['ed25519', edKey, edSignature],
    ['ecdsa', ecKey, ecSignature],
  ])('%s holds with its flags and counter, and with no bit turned', (_, key, signature) => {
    expect(verifySignature(key, message, signature)).toBe(true);
    expect(verifySignature(key, flipped(message, 3), signature)).toBe(false);
    for (let index = 0; index < signature.length; index++)
      expect(verifySignature(key, message, flipped(signature, index))).toBe(false);
    for (let length = 0; length < signature.length; length++)
      expect(verifySignature(key, message, signature.subarray(0, length))).toBe(false);
    expect(verifySignature(key, message, join8(signature, Uint8Array.of(0)))).toBe(false);
  });

  it('is bound to the application', () => {
    const other = join8(
      string('sk-ssh-ed25519@openssh.com'),
      string(coordinate('x', ed25519.publicKey)),
      string('ssh:'),
    );
    expect(verifySignature(parsePublicKey(other), message, edSignature)).toBe(false);
  });

  it('is not taken for one of the plain type', () => {
    const plain = parsePublicKey(join8(string('ssh-ed25519'), string(coordinate('x', ed25519.publicKey))));
    expect(verifySignature(plain, message, edSignature)).toBe(false);
    const plainSignature = join8(string('ssh-ed25519'), string(sign(null, message, ed25519.privateKey)));
    expect(verifySignature(plain, message, plainSignature)).toBe(true);
    expect(verifySignature(edKey, message, plainSignature)).toBe(false);
  });
});

describe('the name of a signature', () => {
  it('is what its first string says', () => {
    expect(signatureName(join8(string('rsa-sha2-512'), string('')))).toBe('rsa-sha2-512');
    expect(signatureName(string(''))).toBe('');
    expect(signatureName(new Uint8Array())).toBeUndefined();
    expect(signatureName(Uint8Array.of(0, 0, 0, 9, 65))).toBeUndefined();
  });
});
