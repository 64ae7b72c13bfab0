/**
 * A certificate from its serial number to the key that signs it (draft-miller-ssh-cert): what both a finished certificate
 * and one that is still to be signed have. Whether it is sensible is not judged; what the draft says of the order and
 * uniqueness of options is not demanded, since OpenSSH doesn't.
 */
import { text } from './bytes.ts';
import { WireError } from './error.ts';
import type { Reader } from './reader.ts';

/** OpenSSH's SSHKEY_CERT_MAX_PRINCIPALS. */
export const MAX_PRINCIPALS = 256;
/** Critical options, and extensions, of one certificate. OpenSSH bounds them by the blob alone. */
export const MAX_OPTIONS = 1024;
/** A certificate's end that stands for "never". */
export const FOREVER = 0xffff_ffff_ffff_ffffn;

const USER = 1;
const HOST = 2;

export interface CertificateOption {
  readonly name: string;
  /** A view of the input. */
  readonly data: Uint8Array;
}

export interface CertificateBody {
  readonly certificateKind: 'user' | 'host';
  readonly serial: bigint;
  /** Whatever the authority wrote. */
  readonly keyId: string;
  readonly principals: readonly string[];
  /** Seconds since 1970. */
  readonly validAfter: bigint;
  /** Seconds since 1970; no longer valid at this second. FOREVER: no end. */
  readonly validBefore: bigint;
  readonly criticalOptions: readonly CertificateOption[];
  readonly extensions: readonly CertificateOption[];
  /** The blob of the key that signs it, as it claims: a view of the input. */
  readonly authority: Uint8Array;
}

function readList<T>(reader: Reader, max: number, what: string, readOne: (reader: Reader) => T): T[] {
  const list: T[] = [];
  while (reader.remaining > 0) {
    if (list.length === max) throw new WireError('too-long', what, `at most ${max}`);
    list.push(readOne(reader));
  }
  return list;
}

function readOptions(reader: Reader, what: string): CertificateOption[] {
  return readList(reader, MAX_OPTIONS, what, (inner) => ({
    name: text(inner.string('option')),
    data: inner.string('data'),
  }));
}

/** @throws WireError 'too-long' for a list above its bound, 'bad-value' for neither user nor host, and others */
export function readCertificateBody(reader: Reader): CertificateBody {
  const serial = reader.u64('serial');
  const kind = reader.u32('certificate kind');
  if (kind !== USER && kind !== HOST) throw new WireError('bad-value', 'certificate kind', 'neither user nor host');
  const keyId = reader.text('key id');
  const principals = readList(reader.child('principals'), MAX_PRINCIPALS, 'principals', (inner) =>
    inner.text('principal'),
  );
  const validAfter = reader.u64('valid after');
  const validBefore = reader.u64('valid before');
  const criticalOptions = readOptions(reader.child('critical options'), 'critical options');
  const extensions = readOptions(reader.child('extensions'), 'extensions');
  reader.string('reserved');
  const authority = reader.string('signature key');
  return {
    certificateKind: kind === USER ? 'user' : 'host',
    serial,
    keyId,
    principals,
    validAfter,
    validBefore,
    criticalOptions,
    extensions,
    authority,
  };
}
