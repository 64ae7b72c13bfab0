/**
 * The client data of a web login (W3C WebAuthn level 2, section 5.8.1; "typ" as in FIDO U2F's raw messages): the JSON whose
 * hash a security key signs behind a hash of its application and a counter. The key puts these together itself and hashes
 * what an agent gives it, so this text is what reaches an agent that is to forge a login to a web site. The signed whole
 * (authenticator data and a hash) has no mark to know it by, and no security key signs it as it is: unidentified bytes.
 *
 * Read generously, since what a site takes for client data should be known as such here, whatever it looks like.
 */
import { text } from './bytes.ts';

/** Browsers write some hundred bytes; longer ones stay unidentified. */
export const MAX_CLIENT_DATA_BYTES = 64 * 1024;

export interface WebLogin {
  readonly kind: 'webauthn';
  /** 'webauthn.get' to log in, 'webauthn.create' to register, and U2F's names for these. */
  readonly type: string;
  /** 'https://example.com': the site, as the text claims. */
  readonly origin: string;
  /** The site's, in base64url as it stands there. */
  readonly challenge: string;
}

const types: ReadonlySet<unknown> = new Set([
  'webauthn.get',
  'webauthn.create',
  'payment.get',
  'navigator.id.getAssertion',
  'navigator.id.finishEnrollment',
]);

/** The brace, JSON's white space, and the byte order mark: no string of SSH that fits a message begins so. */
const BEGINNINGS: ReadonlySet<number | undefined> = new Set([0x7b, 0x20, 0x09, 0x0a, 0x0d, 0xef]);

/** Undefined where `data` is something else. Never throws. */
export function readClientData(data: Uint8Array): WebLogin | undefined {
  if (!BEGINNINGS.has(data[0]) || data.length > MAX_CLIENT_DATA_BYTES) return undefined;
  let parsed: Record<string, unknown> | null;
  try {
    parsed = JSON.parse(text(data).replace(/^\ufeff/, ''));
  } catch {
    return undefined;
  }
  if (typeof parsed !== 'object' || parsed === null) return undefined;
  const { origin, challenge } = parsed;
  const type = types.has(parsed.type) ? parsed.type : parsed.typ;
  if (!types.has(type) || typeof origin !== 'string' || typeof challenge !== 'string') return undefined;
  return { kind: 'webauthn', type: type as string, origin, challenge };
}
