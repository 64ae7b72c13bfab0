/**
 * Per key type, the fields of its public blob and of the private part of a request to add it (plain, and beside a
 * certificate). The agent protocol has no length around a key: only this table tells where it ends.
 *
 * RFC 9987 section 3.2, RFC 4253 section 6.6, RFC 5656, RFC 8709, OpenSSH PROTOCOL.u2f, and for the composite type
 * OpenSSH 10.4. ssh-dss and ssh-ed448 have no shape on purpose.
 */
import { WireError } from './error.ts';
import type { Reader } from './reader.ts';
import type { Writer } from './writer.ts';

export type FieldKind = 'string' | 'mpint' | 'u8';

export interface Field {
  readonly name: string;
  readonly kind: FieldKind;
  /** Never leaves custody, is never logged. */
  readonly secret: boolean;
}

export interface KeyShape {
  readonly type: string;
  /** The certificate type over the same key. */
  readonly certificateType: string;
  readonly publicFields: readonly Field[];
  /** After the type name, in a request to add the plain key. */
  readonly addFields: readonly Field[];
  /** After type name and certificate, in a request to add the key with a certificate. */
  readonly addWithCertificateFields: readonly Field[];
}

/** Field values as views: a string as it is, an mpint as its magnitude, a u8 as one byte. */
export type FieldValues = Readonly<Record<string, Uint8Array>>;

const open = (name: string, kind: FieldKind = 'string'): Field => ({ name, kind, secret: false });
const secret = (name: string, kind: FieldKind = 'string'): Field => ({ name, kind, secret: true });

const rsaPrivate = [secret('d', 'mpint'), secret('iqmp', 'mpint'), secret('p', 'mpint'), secret('q', 'mpint')];
const skPrivate = [open('flags', 'u8'), secret('keyHandle'), open('reserved')];

function ecdsa(curve: string): KeyShape {
  const type = `ecdsa-sha2-${curve}`;
  return {
    type,
    certificateType: `${type}-cert-v01@openssh.com`,
    publicFields: [open('curve'), open('q')],
    addFields: [open('curve'), open('q'), secret('d', 'mpint')],
    addWithCertificateFields: [secret('d', 'mpint')],
  };
}

export const keyShapes: readonly KeyShape[] = [
  {
    type: 'ssh-ed25519',
    certificateType: 'ssh-ed25519-cert-v01@openssh.com',
    publicFields: [open('pk')],
    addFields: [open('pk'), secret('sk')],
    addWithCertificateFields: [open('pk'), secret('sk')],
  },
  ecdsa('nistp256'),
  ecdsa('nistp384'),
  ecdsa('nistp521'),
  {
    type: 'ssh-rsa',
    certificateType: 'ssh-rsa-cert-v01@openssh.com',
    publicFields: [open('e', 'mpint'), open('n', 'mpint')],
    addFields: [open('n', 'mpint'), open('e', 'mpint'), ...rsaPrivate],
    addWithCertificateFields: rsaPrivate,
  },
  {
    type: 'ssh-mldsa44-ed25519@openssh.com',
    certificateType: 'ssh-mldsa44-ed25519-cert-v01@openssh.com',
    publicFields: [open('pk')],
    addFields: [open('pk'), secret('sk')],
    addWithCertificateFields: [secret('sk')],
  },
  {
    type: 'sk-ssh-ed25519@openssh.com',
    certificateType: 'sk-ssh-ed25519-cert-v01@openssh.com',
    publicFields: [open('pk'), open('application')],
    addFields: [open('pk'), open('application'), ...skPrivate],
    addWithCertificateFields: [open('pk'), open('application'), ...skPrivate],
  },
  {
    type: 'sk-ecdsa-sha2-nistp256@openssh.com',
    certificateType: 'sk-ecdsa-sha2-nistp256-cert-v01@openssh.com',
    publicFields: [open('curve'), open('q'), open('application')],
    addFields: [open('curve'), open('q'), open('application'), ...skPrivate],
    addWithCertificateFields: [open('application'), ...skPrivate],
  },
];

const byName = new Map<string, { shape: KeyShape; certificate: boolean }>();
for (const shape of keyShapes) {
  byName.set(shape.type, { shape, certificate: false });
  byName.set(shape.certificateType, { shape, certificate: true });
}

/** The shape behind a plain or certificate type name, or undefined where we have none. */
export function keyShape(name: string): { readonly shape: KeyShape; readonly certificate: boolean } | undefined {
  return byName.get(name);
}

/** Signature algorithms whose name is not a key type, and the type of the keys that make them. */
const typeOfAlgorithm: ReadonlyMap<string, string> = new Map([
  ['rsa-sha2-256', 'ssh-rsa'],
  ['rsa-sha2-512', 'ssh-rsa'],
  ['rsa-sha2-256-cert-v01@openssh.com', 'ssh-rsa-cert-v01@openssh.com'],
  ['rsa-sha2-512-cert-v01@openssh.com', 'ssh-rsa-cert-v01@openssh.com'],
  ['webauthn-sk-ecdsa-sha2-nistp256@openssh.com', 'sk-ecdsa-sha2-nistp256@openssh.com'],
  ['webauthn-sk-ecdsa-sha2-nistp256-cert-v01@openssh.com', 'sk-ecdsa-sha2-nistp256-cert-v01@openssh.com'],
]);

/** The type of the keys that sign by the algorithm `name`; any other name is given back as it is. */
export function keyTypeBehind(name: string): string {
  return typeOfAlgorithm.get(name) ?? name;
}

/** Reads `fields` in order. @throws WireError */
export function readFields(reader: Reader, fields: readonly Field[]): FieldValues {
  const values: Record<string, Uint8Array> = {};
  for (const { name, kind } of fields) {
    if (kind === 'mpint') values[name] = reader.mpint(name);
    else if (kind === 'u8') values[name] = reader.bytes(1, name);
    else values[name] = reader.string(name);
  }
  return values;
}

/** Writes `fields` in order. @throws WireError where `values` lacks one, or a u8 is not one byte */
export function writeFields(writer: Writer, fields: readonly Field[], values: FieldValues): void {
  for (const { name, kind } of fields) {
    const value = values[name];
    if (value === undefined) throw new WireError('bad-value', name, 'missing');
    if (kind === 'mpint') writer.mpint(value);
    else if (kind === 'u8') {
      if (value.length !== 1) throw new WireError('bad-value', name, 'one byte');
      writer.bytes(value);
    } else writer.string(value);
  }
}
