/** Small operations on byte arrays that every floor needs; none of them keeps what it was given. */

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** UTF-8 bytes of `text`. */
export function utf8(text: string): Uint8Array {
  return encoder.encode(text);
}

/** Text of `bytes`; what is not UTF-8 becomes U+FFFD, so that a foreign comment can be shown but never ends a program. */
export function text(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/** One array with the bytes of all `parts`, in order. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const joined = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** A copy that outlives the buffer that `bytes` is a view of. */
export function copy(bytes: Uint8Array): Uint8Array {
  return Uint8Array.prototype.slice.call(bytes);
}

/** Whether both hold the same bytes. Not for secrets: it stops at the first difference. */
export function equal(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

export function hex(bytes: Uint8Array): string {
  let out = '';
  for (const byte of bytes) out += byte.toString(16).padStart(2, '0');
  return out;
}

/** Standard base64 with padding (RFC 4648 section 4). Makes strings: not for secrets. */
export function base64(bytes: Uint8Array): string {
  let binary = '';
  // A spread of a whole key list would be too many arguments for one call.
  for (let at = 0; at < bytes.length; at += 4096) binary += String.fromCharCode(...bytes.subarray(at, at + 4096));
  return btoa(binary);
}

/** Bytes of standard base64, or undefined where `value` is not base64. */
export function fromBase64(value: string): Uint8Array | undefined {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(value) || value.length % 4 !== 0) return undefined;
  const binary = atob(value);
  // Bits that no byte takes must be 0, as OpenSSH has it: else one key would have many texts.
  if (btoa(binary.slice(-(binary.length % 3 || 3))) !== value.slice(-4)) return undefined;
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
