/** The messages in test/vectors: what real clients and agents said, beside what it means (see record.mjs there). */
import { readdirSync, readFileSync } from 'node:fs';
import { fromHex } from './build.ts';

const folder = new URL('../../vectors/', import.meta.url);

export interface Vector {
  readonly name: string;
  readonly direction: 'request' | 'response';
  /** With its length field. */
  readonly frame: Uint8Array;
  readonly message: Uint8Array;
  /** What the message must decode to. */
  readonly value: Readonly<Record<string, unknown>>;
  /** For session-bind: what its body must decode to. */
  readonly bind: unknown;
  /** Bytes at the end that the decoded value does not hold. */
  readonly ignored: Uint8Array;
}

/** Byte strings are written as {"$hex": "..."}. */
function revive(_: string, value: unknown): unknown {
  if (typeof value === 'object' && value !== null && '$hex' in value) return fromHex(String(value.$hex));
  return value;
}

function load(name: string): Vector {
  const frame = new Uint8Array(readFileSync(new URL(`${name}.bin`, folder)));
  const twin = JSON.parse(readFileSync(new URL(`${name}.json`, folder), 'utf8'), revive);
  const { $bind: bind, $ignored: ignored = new Uint8Array(0), ...value } = twin.expected;
  return { name, direction: twin.direction, frame, message: frame.slice(4), value, bind, ignored };
}

export const vectors: readonly Vector[] = readdirSync(folder)
  .filter((file) => file.endsWith('.bin'))
  .sort()
  .map((file) => load(file.slice(0, -'.bin'.length)));
