/**
 * What a browser has a security key sign (OpenSSH's PROTOCOL.u2f, "webauthn signatures"; W3C WebAuthn level 2, section
 * 5.8.1): not the data itself, but a text of its own that holds the data as its challenge. As in OpenSSH no JSON is read:
 * the text begins in one way only, and what follows the origin is not judged.
 */
import { equal, utf8 } from '../wire/bytes.ts';
import type { Reader } from '../wire/reader.ts';
import { base64Url } from './mldsa.ts';

/** Attested credential data follow: never where a key signs. */
const ATTESTED = 0x40;
/** Extensions follow. */
const EXTENDED = 0x80;

export interface BrowserSigned {
  /** Of what the hash is signed in place of that of the data. */
  readonly clientData: Uint8Array;
  /** Between the counter and that hash. */
  readonly extensions: Uint8Array;
}

/**
 * Reads what follows the counter in a webauthn signature.
 * @param flags the byte before the counter
 * @returns undefined where it is no signature of `data`, whoever made it
 * @throws WireError
 */
export function readBrowserSigned(reader: Reader, flags: number, data: Uint8Array): BrowserSigned | undefined {
  const origin = reader.exactText('origin');
  const clientData = reader.string('client data');
  const extensions = reader.string('extensions');
  const extended = (flags & EXTENDED) !== 0;
  if (origin.includes('"') || (flags & ATTESTED) !== 0 || extended !== extensions.length > 0) return undefined;
  const begin = utf8(`{"type":"webauthn.get","challenge":"${base64Url(data)}","origin":"${origin}"`);
  return equal(clientData.subarray(0, begin.length), begin) ? { clientData, extensions } : undefined;
}
