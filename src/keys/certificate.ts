/**
 * OpenSSH certificates (draft-miller-ssh-cert, formerly PROTOCOL.certkeys), version 01: what follows the public fields,
 * and the authority's signature. Options are kept as they are; only whether there are any is judged here.
 */
import { copy } from '../wire/bytes.ts';
import { type CertificateBody, type CertificateOption, readCertificateBody } from '../wire/certificatebody.ts';
import { WireError } from '../wire/error.ts';
import type { Reader } from '../wire/reader.ts';
import { algorithms, signatureAlgorithms } from './algorithms.ts';
import { KeyError } from './error.ts';
import { matchGlob } from './glob.ts';
import type { PublicKey } from './publickey.ts';
import { signatureName, verifySignature } from './signature.ts';

export interface Certificate {
  readonly kind: 'user' | 'host';
  readonly serial: bigint;
  /** Whatever the authority wrote. */
  readonly keyId: string;
  readonly principals: readonly string[];
  /** Seconds since 1970. */
  readonly validAfter: bigint;
  /** Seconds since 1970; the certificate is no longer valid at this second. 2^64-1: no end. */
  readonly validBefore: bigint;
  readonly criticalOptions: ReadonlyMap<string, Uint8Array>;
  readonly extensions: ReadonlyMap<string, Uint8Array>;
  /** Always a plain key. */
  readonly authority: PublicKey;
  /** With which the authority signed, as in its signature. */
  readonly signatureAlgorithm: string;
}

function readBody(reader: Reader): CertificateBody {
  try {
    return readCertificateBody(reader);
  } catch (error) {
    if (error instanceof WireError && error.code === 'too-long')
      throw new KeyError('out-of-bounds', `certificate: ${error.message}`, { cause: error });
    throw error;
  }
}

function kept(options: readonly CertificateOption[]): Map<string, Uint8Array> {
  return new Map(options.map(({ name, data }) => [name, copy(data)]));
}

/**
 * Reads the rest of a certificate, from the serial number on, and verifies the signature over all that `reader` has
 * read until then.
 * @param parseAuthority reads the signature key, and refuses a certificate
 * @throws KeyError, WireError
 */
export function readCertificate(reader: Reader, parseAuthority: (blob: Uint8Array) => PublicKey): Certificate {
  const { certificateKind, authority: authorityBlob, ...body } = readBody(reader);
  const authority = parseAuthority(authorityBlob);
  const signed = reader.consumed();
  const signature = reader.string('signature');
  if (!verifySignature(authority, signed, signature))
    throw new KeyError('bad-signature', 'the certificate is not signed by the authority that it names');
  return {
    ...body,
    kind: certificateKind,
    criticalOptions: kept(body.criticalOptions),
    extensions: kept(body.extensions),
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
