import { describe, expect, it } from 'vitest';
import { algorithm, algorithms, signatureAlgorithm, signatureAlgorithms } from '../../../src/keys/algorithms.ts';
import { keyShapes } from '../../../src/wire/keyshapes.ts';

const row = (name: string) => {
  const found = algorithm(name);
  if (found === undefined) throw new Error(`no row for ${name}`);
  return found;
};

describe('the table of key types', () => {
  it('has a row for each shape on the wire and for no other', () => {
    expect(algorithms.map(({ type, certificateType }) => [type, certificateType])).toEqual(
      keyShapes.map(({ type, certificateType }) => [type, certificateType]),
    );
  });

  it('finds a row by the plain and by the certificate name', () => {
    expect(row('ssh-ed25519-cert-v01@openssh.com')).toBe(row('ssh-ed25519'));
    expect(row('sk-ssh-ed25519-cert-v01@openssh.com')).toBe(row('sk-ssh-ed25519@openssh.com'));
    expect(row('ssh-mldsa44-ed25519-cert-v01@openssh.com')).toBe(row('ssh-mldsa44-ed25519@openssh.com'));
  });

  it.each([
    'ssh-dss',
    'ssh-ed448',
    'rsa-sha2-256',
    'webauthn-sk-ecdsa-sha2-nistp256@openssh.com',
    '',
    'constructor',
    'SSH-RSA',
  ])('has no row for %j', (name) => {
    expect(algorithm(name)).toBeUndefined();
  });
});

describe('what a key signs with', () => {
  it.each([
    [0, 'ssh-rsa', 'sha1'],
    [1, 'ssh-rsa', 'sha1'],
    [2, 'rsa-sha2-256', 'sha256'],
    [4, 'rsa-sha2-512', 'sha512'],
    [6, 'rsa-sha2-256', 'sha256'],
  ])('is for RSA, with flags %i, %s', (flags, name, hash) => {
    expect(signatureAlgorithm(row('ssh-rsa'), flags)).toEqual({ name, hash });
    expect(signatureAlgorithm(row('ssh-rsa-cert-v01@openssh.com'), flags)).toEqual({ name, hash });
  });

  it.each([
    ['ssh-ed25519', undefined],
    ['ecdsa-sha2-nistp256', 'sha256'],
    ['ecdsa-sha2-nistp384', 'sha384'],
    ['ecdsa-sha2-nistp521', 'sha512'],
    ['ssh-mldsa44-ed25519@openssh.com', undefined],
    ['sk-ssh-ed25519@openssh.com', undefined],
    ['sk-ecdsa-sha2-nistp256@openssh.com', undefined],
  ])('is for %s its own name, whatever the flags', (name, hash) => {
    for (const flags of [0, 2, 4, 7]) expect(signatureAlgorithm(row(name), flags)).toEqual({ name, hash });
    expect(signatureAlgorithms(row(name))[0]).toEqual({ name, hash });
  });
});
