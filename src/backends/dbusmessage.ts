/**
 * Messages of D-Bus (its specification, sections "Type System" and "Message Protocol"), as much as talking to a server of
 * notifications takes: all types but file descriptors are read, in both byte orders; calls are written, little-endian.
 */

/** D-Bus allows 128 MiB; whoever sends us more than this is cut off. */
export const MAX_MESSAGE_BYTES = 64 * 1024;
export const MESSAGE_START_BYTES = 16;
/** Arrays, structs and variants within each other. */
const MAX_DEPTH = 16;
const MAX_SIGNATURE = 255;

export class DbusError extends Error {}

export interface Variant {
  readonly signature: string;
  readonly value: DbusValue;
}

/** y n q i u d: number; b: boolean; x t: bigint; s o g: string; arrays and structs: a list; dictionary entries: a pair. */
export type DbusValue = number | bigint | boolean | string | Variant | readonly DbusValue[];

export type MessageKind = 'call' | 'return' | 'error' | 'signal';
const kinds: readonly (MessageKind | undefined)[] = [undefined, 'call', 'return', 'error', 'signal'];

export interface Message {
  readonly kind: MessageKind;
  readonly serial: number;
  readonly replySerial: number | undefined;
  readonly path: string | undefined;
  readonly interface: string | undefined;
  readonly member: string | undefined;
  readonly errorName: string | undefined;
  /** The bus writes it: nobody can pretend to be another sender. */
  readonly sender: string | undefined;
  readonly body: readonly DbusValue[];
}

export interface Call {
  readonly destination: string;
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  readonly signature: string;
  readonly body: readonly DbusValue[];
}

const ALIGNMENT: Readonly<Record<string, number>> = Object.fromEntries(
  [['ygv', 1] as const, ['nq', 2] as const, ['biusoa', 4] as const, ['xtd({', 8] as const].flatMap(
    ([codes, alignment]) => [...codes].map((code) => [code, alignment]),
  ),
);

/** End of the complete type that begins at `at`. @throws DbusError */
function typeEnd(signature: string, at: number, depth = 0): number {
  const code = signature[at] ?? '';
  if (ALIGNMENT[code] === undefined || depth > MAX_DEPTH) throw new DbusError('bad signature');
  if (code === 'a') return typeEnd(signature, at + 1, depth + 1);
  const close = code === '(' ? ')' : code === '{' ? '}' : undefined;
  if (close === undefined) return at + 1;
  let end = at + 1;
  while (signature[end] !== close) end = typeEnd(signature, end, depth + 1);
  if (end === at + 1) throw new DbusError('bad signature');
  return end + 1;
}

/** The complete types of `signature`, one by one. @throws DbusError */
function typesOf(signature: string): readonly string[] {
  if (signature.length > MAX_SIGNATURE) throw new DbusError('bad signature');
  const types: string[] = [];
  for (let at = 0; at < signature.length; ) {
    const end = typeEnd(signature, at);
    types.push(signature.slice(at, end));
    at = end;
  }
  return types;
}

const pad = (at: number, alignment: number): number => (alignment - (at % alignment)) % alignment;

class Reading {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #little: boolean;
  at = 0;

  constructor(bytes: Uint8Array, little: boolean) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#little = little;
  }

  align(alignment: number): void {
    this.#take(pad(this.at, alignment));
  }

  #take(length: number): number {
    const at = this.at;
    if (length > this.#bytes.length - at) throw new DbusError('a value ends after its message');
    this.at = at + length;
    return at;
  }

  u32(): number {
    this.align(4);
    return this.#view.getUint32(this.#take(4), this.#little);
  }

  #text(length: number): string {
    const at = this.#take(length + 1);
    if (this.#bytes[at + length] !== 0) throw new DbusError('a text without its end');
    return new TextDecoder().decode(this.#bytes.subarray(at, at + length));
  }

  /** @throws DbusError */
  value(type: string, depth = 0): DbusValue {
    if (depth > MAX_DEPTH) throw new DbusError('nested too deep');
    const code = type[0] as string;
    const alignment = ALIGNMENT[code];
    if (alignment === undefined) throw new DbusError('bad signature');
    this.align(alignment);
    const little = this.#little;
    switch (code) {
      case 'y':
        return this.#bytes[this.#take(1)] as number;
      case 'n':
        return this.#view.getInt16(this.#take(2), little);
      case 'q':
        return this.#view.getUint16(this.#take(2), little);
      case 'i':
        return this.#view.getInt32(this.#take(4), little);
      case 'b':
        return this.u32() !== 0;
      case 'u':
        return this.u32();
      case 'x':
        return this.#view.getBigInt64(this.#take(8), little);
      case 't':
        return this.#view.getBigUint64(this.#take(8), little);
      case 'd':
        return this.#view.getFloat64(this.#take(8), little);
      case 'g':
        return this.#text(this.#bytes[this.#take(1)] as number);
      case 'v': {
        const [signature, ...more] = typesOf(this.#text(this.#bytes[this.#take(1)] as number));
        if (signature === undefined || more.length > 0) throw new DbusError('bad signature');
        return { signature, value: this.value(signature, depth + 1) };
      }
      case 'a':
        return this.#array(type.slice(1), depth);
      case '(':
      case '{':
        return typesOf(type.slice(1, -1)).map((part) => this.value(part, depth + 1));
      default:
        return this.#text(this.u32());
    }
  }

  #array(type: string, depth: number): readonly DbusValue[] {
    const length = this.u32();
    this.align(ALIGNMENT[type[0] as string] as number);
    const end = this.at + length;
    if (end > this.#bytes.length) throw new DbusError('a value ends after its message');
    const values: DbusValue[] = [];
    while (this.at < end) values.push(this.value(type, depth + 1));
    if (this.at !== end) throw new DbusError('an array whose length is wrong');
    return values;
  }
}

/**
 * How long the message is that begins with `start`.
 * @throws DbusError where it is none, or longer than MAX_MESSAGE_BYTES
 */
export function messageLength(start: Uint8Array): number {
  const [order, kind, , version] = start;
  const little = order === 0x6c;
  if ((!little && order !== 0x42) || version !== 1 || kind === 0) throw new DbusError('not a message');
  const view = new DataView(start.buffer, start.byteOffset, start.length);
  const body = view.getUint32(4, little);
  const fields = view.getUint32(12, little);
  if (body > MAX_MESSAGE_BYTES || fields > MAX_MESSAGE_BYTES) throw new DbusError('the message is too long');
  const length = MESSAGE_START_BYTES + fields + pad(fields, 8) + body;
  if (length > MAX_MESSAGE_BYTES) throw new DbusError('the message is too long');
  return length;
}

/**
 * Reads one whole message.
 * @returns undefined for a kind that the specification does not know, which is to be ignored
 * @throws DbusError
 */
export function decodeMessage(bytes: Uint8Array): Message | undefined {
  if (bytes.length < MESSAGE_START_BYTES || messageLength(bytes) !== bytes.length) throw new DbusError('not a message');
  const kind = kinds[bytes[1] as number];
  if (kind === undefined) return undefined;
  const reading = new Reading(bytes, bytes[0] === 0x6c);
  reading.at = 8;
  const serial = reading.u32();
  const fields = new Map<number, DbusValue>();
  for (const field of reading.value('a(yv)') as readonly (readonly [number, Variant])[]) {
    fields.set(field[0], field[1].value);
  }
  const text = (field: number): string | undefined => {
    const value = fields.get(field);
    if (value !== undefined && typeof value !== 'string') throw new DbusError('bad header field');
    return value;
  };
  const replySerial = fields.get(5);
  if (replySerial !== undefined && typeof replySerial !== 'number') throw new DbusError('bad header field');
  reading.align(8);
  const body = typesOf(text(8) ?? '').map((type) => reading.value(type));
  if (reading.at !== bytes.length) throw new DbusError('bytes after the body');
  return {
    kind,
    serial,
    replySerial,
    body,
    path: text(1),
    interface: text(2),
    member: text(3),
    errorName: text(4),
    sender: text(7),
  };
}

class Writing {
  readonly bytes: number[] = [];

  align(alignment: number): void {
    while (this.bytes.length % alignment !== 0) this.bytes.push(0);
  }

  u32(value: number, at?: number): void {
    const parts = [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
    if (at !== undefined) this.bytes.splice(at, 4, ...parts);
    else {
      this.align(4);
      this.bytes.push(...parts);
    }
  }

  #text(text: string, isSignature: boolean): void {
    const bytes = new TextEncoder().encode(text.replaceAll('\0', '\ufffd'));
    if (bytes.length > MAX_MESSAGE_BYTES) throw new DbusError('the message is too long');
    if (isSignature) this.bytes.push(bytes.length);
    else this.u32(bytes.length);
    for (const byte of bytes) this.bytes.push(byte);
    this.bytes.push(0);
  }

  /** @throws DbusError where the value is not of that type, or the type is not written */
  value(type: string, value: DbusValue): void {
    const code = type[0] as string;
    if (code === 'y' && typeof value === 'number') this.bytes.push(value & 0xff);
    else if (code === 'b' && typeof value === 'boolean') this.u32(value ? 1 : 0);
    else if ((code === 'u' || code === 'i') && typeof value === 'number') this.u32(value >>> 0);
    else if ((code === 's' || code === 'o') && typeof value === 'string') this.#text(value, false);
    else if (code === 'g' && typeof value === 'string') this.#text(value, true);
    else if (code === 'v' && typeof value === 'object' && 'signature' in value) {
      this.#text(value.signature, true);
      this.value(value.signature, value.value);
    } else if (Array.isArray(value) && code === 'a') this.#array(type.slice(1), value);
    else if (Array.isArray(value) && (code === '(' || code === '{')) {
      this.align(8);
      for (const [i, part] of typesOf(type.slice(1, -1)).entries()) this.value(part, value[i] as DbusValue);
    } else throw new DbusError(`a value of another type: ${type}`);
  }

  #array(type: string, values: readonly DbusValue[]): void {
    this.u32(0);
    const lengthAt = this.bytes.length - 4;
    this.align(ALIGNMENT[type[0] as string] ?? 1);
    const start = this.bytes.length;
    for (const value of values) this.value(type, value);
    this.u32(this.bytes.length - start, lengthAt);
  }
}

/** @throws DbusError where a value does not fit its signature, or all of it is too long */
export function encodeCall(call: Call, serial: number, wantsReply: boolean): Uint8Array {
  const body = new Writing();
  for (const [i, type] of typesOf(call.signature).entries()) body.value(type, call.body[i] as DbusValue);
  const fields: DbusValue[] = [
    [1, { signature: 'o', value: call.path }],
    [2, { signature: 's', value: call.interface }],
    [3, { signature: 's', value: call.member }],
    [6, { signature: 's', value: call.destination }],
  ];
  if (call.signature !== '') fields.push([8, { signature: 'g', value: call.signature }]);
  const head = new Writing();
  head.bytes.push(0x6c, 1, wantsReply ? 0 : 1, 1);
  head.u32(body.bytes.length);
  head.u32(serial);
  head.value('a(yv)', fields);
  head.align(8);
  const bytes = new Uint8Array([...head.bytes, ...body.bytes]);
  if (bytes.length > MAX_MESSAGE_BYTES) throw new DbusError('the message is too long');
  return bytes;
}
