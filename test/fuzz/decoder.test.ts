/**
 * The decoders against broken messages: recorded and generated ones, changed at random but the same each time.
 * FUZZ_RUNS asks for more than 100,000 of them, FUZZ_SEED says where the generator starts.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WireError } from '../../src/wire/error.ts';
import { decodeQueryNames, decodeSessionBind } from '../../src/wire/extensions.ts';
import { decodeRequest, encodeRequest } from '../../src/wire/requests.ts';
import { decodeResponse, encodeResponse } from '../../src/wire/responses.ts';
import { request, response } from '../unit/wire/arbitraries.ts';
import { raw, str, u32 } from '../unit/wire/build.ts';
import { vectors } from '../unit/wire/vectorfiles.ts';

function setting(name: string, fallback: number): number {
  const value = Number(process.env[name] || fallback);
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${name} is no count`);
  return value;
}

/** Fewer would not meet every error. */
const MIN_RUNS = 100_000;
const RUNS = Math.max(MIN_RUNS, setting('FUZZ_RUNS', MIN_RUNS));
const SEED = setting('FUZZ_SEED', 20260815);

/** xorshift32 of Marsaglia: never 0. */
function generator(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % below;
  };
}

const EXTREMES = [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x10000, 262144, 262145, 0x7fffffff, 0x80000000, 0xffffffff];

type Random = (below: number) => number;
type Mutation = (bytes: Uint8Array, random: Random) => Uint8Array;

const flip: Mutation = (bytes, random) => {
  if (bytes.length === 0) return bytes;
  const at = random(bytes.length);
  bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
  return bytes;
};
const overwrite: Mutation = (bytes, random) => {
  if (bytes.length > 0) bytes[random(bytes.length)] = random(256);
  return bytes;
};
const cut: Mutation = (bytes, random) => bytes.slice(0, random(bytes.length + 1));
const remove: Mutation = (bytes, random) => {
  const from = random(bytes.length + 1);
  const to = Math.min(bytes.length, from + 1 + random(16));
  return joined(bytes.subarray(0, from), bytes.subarray(to));
};
const insert: Mutation = (bytes, random) => {
  const at = random(bytes.length + 1);
  const more = Uint8Array.from({ length: 1 + random(16) }, () => random(256));
  return joined(bytes.subarray(0, at), more, bytes.subarray(at));
};
const repeat: Mutation = (bytes, random) => {
  const from = random(bytes.length + 1);
  const to = Math.min(bytes.length, from + random(64));
  return joined(bytes.subarray(0, to), bytes.subarray(from));
};
const extreme: Mutation = (bytes, random) => {
  if (bytes.length >= 5) bytes.set(u32(EXTREMES[random(EXTREMES.length)] ?? 0), random(bytes.length - 3));
  return bytes;
};
/** A length field off by one: where four bytes say no more than what follows them. */
const nearLength: Mutation = (bytes, random) => {
  for (let tries = 0; tries < 8 && bytes.length >= 5; tries++) {
    const at = random(bytes.length - 3);
    const view = new DataView(bytes.buffer, bytes.byteOffset + at, 4);
    const length = view.getUint32(0);
    if (length === 0 || length > bytes.length) continue;
    view.setUint32(0, length + (random(2) === 0 ? 1 : -1));
    return bytes;
  }
  return bytes;
};
const renumber: Mutation = (bytes, random) => {
  const numbers = [9, 11, 13, 17, 18, 19, 20, 21, 22, 23, 25, 26, 27, 5, 6, 12, 14, 28, 29];
  if (bytes.length > 0) bytes[0] = numbers[random(numbers.length)] ?? 0;
  return bytes;
};

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const mutations = [flip, overwrite, cut, remove, insert, repeat, extreme, nearLength, renumber];

const corpus: readonly Uint8Array[] = [
  ...vectors.map(({ message }) => message),
  ...fc.sample(request, { seed: SEED, numRuns: 300 }).map((value) => encodeRequest(value).finish()),
  ...fc.sample(response, { seed: SEED, numRuns: 100 }).map((value) => encodeResponse(value)),
];

function mutated(random: Random): Uint8Array {
  let bytes: Uint8Array = (corpus[random(corpus.length)] ?? new Uint8Array()).slice();
  if (random(4) === 0) {
    // Splice: the head of one message and the tail of another.
    const other = corpus[random(corpus.length)] ?? new Uint8Array();
    bytes = joined(bytes.subarray(0, random(bytes.length + 1)), other.subarray(random(other.length + 1)));
  }
  for (let count = 1 + random(4); count > 0; count--)
    bytes = mutations[random(mutations.length)]?.(bytes, random) ?? bytes;
  return bytes;
}

/** How much a decoded value holds: bytes, characters, and one for each object, array and number. */
function weight(value: unknown): number {
  if (value instanceof Uint8Array) return value.length + 1;
  if (typeof value === 'string') return value.length + 1;
  if (typeof value !== 'object' || value === null) return 1;
  let sum = 1;
  for (const inner of Object.values(value)) sum += weight(inner);
  return sum;
}

/** An empty identity (8 bytes) is an object, an array and a text; the fixed fields of an empty message come to 20. */
const MAX_WEIGHT = (bytes: Uint8Array): number => 4 * bytes.length + 20;

const decoders: readonly [string, (bytes: Uint8Array) => unknown][] = [
  ['decodeRequest', decodeRequest],
  ['decodeResponse', decodeResponse],
  ['decodeSessionBind', decodeSessionBind],
  ['decodeQueryNames', decodeQueryNames],
];

interface Tally {
  values: number;
  errors: number;
  readonly codes: Set<string>;
  readonly kinds: Set<string>;
}

/** Decodes; throws with the input in hex where anything but a value or a WireError comes. */
function attempt(name: string, decode: (bytes: Uint8Array) => unknown, bytes: Uint8Array, tally: Tally): void {
  const broken = (what: string): Error => new Error(`${name}: ${what} for ${Buffer.from(bytes).toString('hex')}`);
  try {
    const value = decode(bytes);
    tally.values++;
    if (typeof value === 'object' && value !== null && 'kind' in value) tally.kinds.add(String(value.kind));
    if (weight(value) > MAX_WEIGHT(bytes)) throw broken(`a value of weight ${weight(value)}`);
  } catch (error) {
    if (!(error instanceof WireError))
      throw error instanceof Error && error.message.startsWith(name) ? error : broken(`${error}`);
    tally.errors++;
    tally.codes.add(error.code);
  }
}

describe(`decoders, ${RUNS} inputs from seed ${SEED}`, () => {
  const tallies = new Map<string, Tally>();

  it('give a value or a WireError, and no value larger than its input allows', () => {
    const random = generator(SEED);
    for (const [name] of decoders) tallies.set(name, { values: 0, errors: 0, codes: new Set(), kinds: new Set() });
    for (let run = 0; run < RUNS; run++) {
      const bytes = mutated(random);
      for (const [name, decode] of decoders) {
        const tally = tallies.get(name);
        if (tally !== undefined) attempt(name, decode, bytes, tally);
      }
    }
    for (const [name] of decoders) {
      const tally = tallies.get(name);
      expect((tally?.values ?? 0) + (tally?.errors ?? 0)).toBe(RUNS);
    }
  });

  it('met every kind of message and every error, so that the inputs are worth something', () => {
    const requests = tallies.get('decodeRequest');
    const responses = tallies.get('decodeResponse');
    expect([...(requests?.codes ?? [])].sort()).toEqual([
      'bad-text',
      'bad-value',
      'repeated-constraint',
      'short',
      'too-long',
      'trailing',
      'unknown-constraint',
      'unknown-type',
    ]);
    expect(requests?.kinds.size).toBe(11);
    expect([...(responses?.codes ?? [])].sort()).toEqual(['bad-text', 'bad-value', 'short', 'too-long', 'trailing']);
    expect(responses?.kinds.size).toBe(6);
    expect(requests?.values).toBeGreaterThan(RUNS / 20);
    expect(requests?.errors).toBeGreaterThan(RUNS / 20);
  });
});

describe('memory', () => {
  const hop = raw(str(), str('h'), str());
  const claims = (claim: Uint8Array): Uint8Array[] => [
    raw(12, claim),
    raw(12, claim, str('b'), str('c')),
    raw(14, claim),
    raw(13, claim),
    raw(18, claim, 1),
    raw(22, claim, 'x'),
    raw(27, claim),
    raw(29, claim),
    raw(17, claim),
    raw(17, str('ssh-rsa'), claim),
    raw(17, str('ssh-ed25519'), str('p'), claim),
    raw(17, str('ssh-ed25519-cert-v01@openssh.com'), claim),
    raw(20, str('p'), claim),
    raw(26, str('p'), str(), 255, claim),
    raw(26, str('p'), str(), 255, str('restrict-destination-v00@openssh.com'), claim),
    raw(26, str('p'), str(), 255, str('restrict-destination-v00@openssh.com'), str(claim)),
    raw(26, str('p'), str(), 255, str('restrict-destination-v00@openssh.com'), str(str(str(hop, claim)))),
    raw(26, str('p'), str(), 255, str('associated-certs-v00@openssh.com'), 1, claim),
    raw(26, str('p'), str(), 255, str('associated-certs-v00@openssh.com'), 1, str(claim)),
    raw(26, str('p'), str(), 255, str('sk-provider@openssh.com'), claim),
  ];

  it.each([16384, 0x00ffffff, 0x7fffffff, 0xfffffff0, 0xffffffff])('is not given for a claim of %d', (claim) => {
    const inputs = claims(u32(claim));
    for (const bytes of inputs) {
      for (const [name, decode] of decoders) {
        const before = process.memoryUsage();
        attempt(name, decode, bytes, { values: 0, errors: 0, codes: new Set(), kinds: new Set() });
        const after = process.memoryUsage();
        // Far above what decoding a hundred bytes takes, far below the smallest claim of a larger kind.
        expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(64 * 1024);
        expect(after.heapUsed - before.heapUsed).toBeLessThan(1024 * 1024);
      }
    }
  });

  it('is bounded for a full frame of the smallest things there are', () => {
    const none = (): Tally => ({ values: 0, errors: 0, codes: new Set(), kinds: new Set() });
    const identities = none();
    attempt('decodeResponse', decodeResponse, raw(12, u32(16384), new Uint8Array(16384 * 8)), identities);
    expect(identities.values).toBe(1);
    const head = raw(26, str('p'), str(), 255, str('associated-certs-v00@openssh.com'), 0);
    const certificates = none();
    attempt('decodeRequest', decodeRequest, raw(head, str(new Uint8Array(262140 - head.length))), certificates);
    expect([...certificates.codes]).toEqual(['too-long']);
    const names = none();
    attempt('decodeQueryNames', decodeQueryNames, new Uint8Array(262144), names);
    expect([...names.codes]).toEqual(['too-long']);
  });
});
