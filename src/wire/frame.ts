/** A frame: u32 length and that many bytes, the first of which is the message number (RFC 9987 section 3). */

/** OpenSSH's AGENT_MAX_LEN: the longest message, without its length field. */
export const MAX_FRAME_BYTES = 256 * 1024;
export const LENGTH_BYTES = 4;

/** The length field at `at`, or undefined where fewer than four bytes are there. */
export function frameLength(bytes: Uint8Array, at = 0): number | undefined {
  if (bytes.length - at < LENGTH_BYTES) return undefined;
  return (
    (((bytes[at] as number) << 24) |
      ((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number)) >>>
    0
  );
}

/** `message` with its length in front. */
export function encodeFrame(message: Uint8Array): Uint8Array {
  const frame = new Uint8Array(LENGTH_BYTES + message.length);
  frame[0] = message.length >>> 24;
  frame[1] = message.length >>> 16;
  frame[2] = message.length >>> 8;
  frame[3] = message.length;
  frame.set(message, LENGTH_BYTES);
  return frame;
}
