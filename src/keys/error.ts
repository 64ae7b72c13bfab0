/** What can be wrong with a key, a certificate, a signature or a key file. Texts hold no key material. */
export type KeyErrorCode =
  | 'unknown-type' // a type that we do not hold (DSA, ed448, ...)
  | 'unsupported' // known, but not served here (a security key without its helper)
  | 'malformed' // the bytes do not make a key
  | 'out-of-bounds' // too small, too large, or a number that may not be
  | 'mismatch' // the private half does not fit the public one, or the certificate is another key's
  | 'bad-signature' // a certificate that its authority did not sign
  | 'wrong-passphrase'
  | 'needs-passphrase'
  | 'full' // custody has no room left
  | 'sealed' // custody is locked
  | 'internal'; // the cryptographic library refused what should have worked

export class KeyError extends Error {
  readonly code: KeyErrorCode;

  constructor(code: KeyErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'KeyError';
    this.code = code;
  }
}
