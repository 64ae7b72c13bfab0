/**
 * OpenSSH certificates (draft-miller-ssh-cert, formerly PROTOCOL.certkeys), version 01: what follows the public fields,
 * and the authority's signature. Options are kept as they are; only whether there are any is judged here. What the
 * draft says of their order and uniqueness is not demanded, since OpenSSH doesn't.
 */
import { copy, text } from '../wire/bytes.ts';
import type { Reader } from '../wire/reader.ts';
import { algorithms, signatureAlgorithms } from './algorithms.ts';
import { KeyError } from './error.ts';
import { matchGlob } from './glob.ts';
import type { PublicKey } from './publickey.ts';
import { signatureName, verifySignature } from './signature.ts';

/** OpenSSH's SSHKEY_CERT_MAX_PRINCIPALS. */
export const MAX_PRINCIPALS = 256;
/** Critical options, and extensions, of one certificate. OpenSSH bounds them by the blob alone. */
export const MAX_OPTIONS = 1024;
/** A certificate's end that stands for "never". */
export const FOREVER = 0xffff_ffff_ffff_ffffn;

const USER = 1;
const HOST = 2;

export interface Certificate {
  readonly kind: 'user' | 'host';
  readonly serial: bigint;
  /** Whatever the authority wrote. */
  readonly keyId: string;
  readonly principals: readonly string[];
  /** Seconds since 1970. */
  readonly validAfter: bigint;
  /** Seconds since 1970; the certificate is no longer valid at this second. FOREVER: no end. */
  readonly validBefore: bigint;
  readonly criticalOptions: ReadonlyMap<string, Uint8Array>;
  readonly extensions: ReadonlyMap<string, Uint8Array>;
  /** Always a plain key. */
  readonly authority: PublicKey;
  /** With which the authority signed, as in its signature. */
  readonly signatureAlgorithm: string;
}

function readPrincipals(reader: Reader): string[] {
  const principals: string[] = [];
  while (reader.remaining > 0) {
    if (principals.length === MAX_PRINCIPALS)
      throw new KeyError('out-of-bounds', `certificate with more than ${MAX_PRINCIPALS} principals`);
    principals.push(reader.text('principal'));
  }
  return principals;
}

function readOptions(reader: Reader, field: string): Map<string, Uint8Array> {
  const options = new Map<string, Uint8Array>();
  while (reader.remaining > 0) {
    if (options.size === MAX_OPTIONS)
      throw new KeyError('out-of-bounds', `certificate with more than ${MAX_OPTIONS} options of a kind`);
    const name = text(reader.string(`${field} name`));
    options.set(name, copy(reader.string(`${field} data`)));
  }
  return options;
}

/**
 * Reads the rest of a certificate, from the serial number on, and verifies the signature over all that `reader` has
 * read until then.
 * @param parseAuthority reads the signature key, and refuses a certificate
 * @throws KeyError, WireError
 */
export function readCertificate(reader: Reader, parseAuthority: (blob: Uint8Array) => PublicKey): Certificate {
  const serial = reader.u64('serial');
  const type = reader.u32('certificate type');
  if (type !== USER && type !== HOST) throw new KeyError('malformed', 'certificate is for neither user nor host');
  const keyId = reader.text('key id');
  const principals = readPrincipals(reader.child('principals'));
  const validAfter = reader.u64('valid after');
  const validBefore = reader.u64('valid before');
  const criticalOptions = readOptions(reader.child('critical options'), 'critical option');
  const extensions = readOptions(reader.child('extensions'), 'extension');
  reader.string('reserved');
  const authority = parseAuthority(reader.string('signature key'));
  const signed = reader.consumed();
  const signature = reader.string('signature');
  if (!verifySignature(authority, signed, signature))
    throw new KeyError('bad-signature', 'the certificate is not signed by the authority that it names');
  return {
    kind: type === USER ? 'user' : 'host',
    serial,
    keyId,
    principals,
    validAfter,
    validBefore,
    criticalOptions,
    extensions,
    authority,
    signatureAlgorithm: signatureName(signature) ?? '',
  };
}

/**
 * OpenSSH's SSH_ALLOWED_CA_SIGALGS: a host certificate signed with SHA-1, or by the composite type, which is an
 * experiment, counts for nothing.
 */
const allowedAuthoritySignatures: ReadonlySet<string> = new Set(
  algorithms
    .filter(({ family }) => family !== 'mldsa44-ed25519')
    .flatMap((row) => signatureAlgorithms(row).map(({ name }) => name))
    .filter((name) => name !== 'ssh-rsa'),
);

/**
 * Whether a host that shows `certificate` may be taken for `hostname` (OPENSSH.md section 5, "match hop"): a host
 * certificate with principals, one of which matches when read as a pattern; valid now; no critical options; signed with
 * an algorithm that is allowed for hosts. Whether its authority is trusted is for the caller.
 * @param nowSeconds seconds since 1970
 */
export function isHostCertificateFor(certificate: Certificate, hostname: string, nowSeconds: number): boolean {
  if (!Number.isFinite(nowSeconds)) return false;
  const now = BigInt(Math.floor(nowSeconds));
  return (
    certificate.kind === 'host' &&
    now >= certificate.validAfter &&
    now < certificate.validBefore &&
    certificate.criticalOptions.size === 0 &&
    allowedAuthoritySignatures.has(certificate.signatureAlgorithm) &&
    // U+FFFD stands for bytes that are not UTF-8: two of them being alike here says nothing.
    certificate.principals.some((pattern) => !pattern.includes('\ufffd') && matchGlob(hostname, pattern))
  );
}
