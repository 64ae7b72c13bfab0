import { describe, expect, it } from 'vitest';
import { CUSTODY_CHUNK_BYTES, Custody, MAX_CUSTODY_BYTES, type Slot } from '../../../src/keys/custody.ts';
import { KeyError } from '../../../src/keys/error.ts';

const phrase = new TextEncoder().encode('the right pass phrase');
const wrong = new TextEncoder().encode('the wrong pass phrase');
const TAG_BYTES = 16;

/** One chunk for keys and one for what passes. */
const AT_REST = 2 * CUSTODY_CHUNK_BYTES;

/** Deriving a key costs next to nothing here. */
const custody = (): Custody => new Custody({ lockCost: { n: 16, r: 1, p: 1 } });

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof KeyError) return error.code;
    throw error;
  }
  return 'no error';
}

async function codeOfLater(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'no error',
    (error: unknown) => (error instanceof KeyError ? error.code : Promise.reject(error)),
  );
}

/** A slot of `length` bytes, each `value`. */
function filled(held: Custody, length: number, value: number): Slot {
  const slot = held.allocate(length);
  slot.bytes.fill(value);
  return slot;
}

/** What lies in and right behind a slot, where its tag has room. */
function withTag({ bytes }: Slot): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length + TAG_BYTES);
}

const allAre = (bytes: Uint8Array, value: number): boolean => bytes.every((byte) => byte === value);

/** Takes all that there is for what passes, also the smallest slots. */
function fill(held: Custody): Slot[] {
  const slots: Slot[] = [];
  for (let size = CUSTODY_CHUNK_BYTES; size >= 32; size /= 2)
    while (codeOf(() => slots.push(held.passing(size))) === 'no error');
  expect(codeOf(() => held.passing(1))).toBe('full');
  return slots;
}

describe('custody', () => {
  it('is in pages that others cannot read or that are locked, never in plain ones unless they will do', () => {
    const { pages, mappedBytes, usedBytes, sealed } = custody().status();
    expect(['memfd_secret', 'locked']).toContain(pages);
    expect({ mappedBytes, usedBytes, sealed }).toEqual({ mappedBytes: AT_REST, usedBytes: 0, sealed: false });
    expect(codeOf(() => new Custody({ accept: [] }))).toBe('full');
    const buffer = custody().buffer(4096);
    expect(buffer.length).toBe(4096);
    expect(allAre(buffer, 0)).toBe(true);
  });

  it('gives zeroed slots that do not overlap, with the length asked for', () => {
    const held = custody();
    const lengths = [1, 16, 31, 32, 33, 64, 100, 255, 1360, 4096, 11_000, 300_000];
    const slots = lengths.flatMap((length, i) => [
      { slot: held.allocate(length), length, value: 2 * i + 1 },
      { slot: held.passing(length), length, value: 2 * i + 2 },
    ]);
    for (const { slot, length } of slots) {
      expect(slot.bytes.length).toBe(length);
      expect(allAre(slot.bytes, 0)).toBe(true);
    }
    for (const { slot, value } of slots) slot.bytes.fill(value);
    for (const { slot, value, length } of slots) expect(allAre(slot.bytes, value), `${length}`).toBe(true);
    expect(new Set(slots.map(({ slot }) => slot.address)).size).toBe(slots.length);
  });

  it('wipes a slot when it is freed, and only that one', () => {
    const held = custody();
    const [one, two] = [filled(held, 32, 1), filled(held, 32, 2)];
    const passing = held.passing(100);
    passing.bytes.fill(3);
    one.free();
    expect(allAre(one.bytes, 0)).toBe(true);
    expect(allAre(two.bytes, 2)).toBe(true);
    passing.free();
    expect(allAre(passing.bytes, 0)).toBe(true);
    two.free();
    expect(allAre(two.bytes, 0)).toBe(true);
    expect(held.status().usedBytes).toBe(0);
  });

  it('gives a freed slot out again, zeroed, and once only though it was freed twice', () => {
    const held = custody();
    const kept = held.allocate(32);
    const slot = filled(held, 48, 7);
    const { address } = slot;
    slot.free();
    slot.free();
    const [again, other] = [held.allocate(40), held.allocate(40)];
    expect(again.address).toBe(address);
    expect(allAre(again.bytes, 0)).toBe(true);
    expect(other.address).not.toBe(address);
    slot.free();
    again.bytes.fill(9);
    expect(held.allocate(40).address).not.toBe(address);
    expect(allAre(again.bytes, 9)).toBe(true);
    kept.free();
  });

  it('refuses what is larger than a chunk, where a slot for a key needs room for its tag', () => {
    const held = custody();
    expect(codeOf(() => held.passing(CUSTODY_CHUNK_BYTES + 1))).toBe('out-of-bounds');
    expect(codeOf(() => held.allocate(CUSTODY_CHUNK_BYTES))).toBe('out-of-bounds');
    expect(held.passing(CUSTODY_CHUNK_BYTES).bytes.length).toBe(CUSTODY_CHUNK_BYTES);
    expect(held.allocate(CUSTODY_CHUNK_BYTES - TAG_BYTES).bytes.length).toBe(CUSTODY_CHUNK_BYTES - TAG_BYTES);
  });

  it('is full at its limit, keeps what it holds then, and gives pages back when nothing passes', () => {
    const held = custody();
    const key = filled(held, 32, 5);
    for (let i = 0; i < 2; i++) {
      const slots = fill(held);
      const { mappedBytes } = held.status();
      expect(mappedBytes).toBeGreaterThan(AT_REST);
      expect(mappedBytes).toBeLessThanOrEqual(MAX_CUSTODY_BYTES);
      for (const slot of slots) slot.free();
      expect(held.status().mappedBytes).toBe(AT_REST);
      expect(allAre(key.bytes, 5)).toBe(true);
    }
    expect(allAre(held.allocate(1000).bytes, 0)).toBe(true);
  });

  it('has room for a request and for locking when no more keys fit', async () => {
    const held = custody();
    const keys: Slot[] = [];
    while (codeOf(() => keys.push(held.allocate(CUSTODY_CHUNK_BYTES - TAG_BYTES))) === 'no error');
    expect(keys.length).toBeGreaterThan(2);
    expect(codeOf(() => held.allocate(CUSTODY_CHUNK_BYTES - TAG_BYTES))).toBe('full');
    held.passing(256 * 1024).free();
    await held.seal(phrase);
    expect(await held.unseal(phrase)).toBe(true);
    for (const key of keys) key.free();
    expect(held.status()).toMatchObject({ mappedBytes: AT_REST, usedBytes: 0 });
  });

  it('is not used up by messages of ever other lengths while one is half sent', () => {
    const held = custody();
    const half = held.passing(256);
    for (let length = 1; length < 256 * 1024; length += 97) held.passing(length).free();
    expect(held.status().mappedBytes).toBeLessThanOrEqual(2 * AT_REST);
    half.free();
    expect(held.status().mappedBytes).toBe(AT_REST);
  });
});

describe('sealed custody', () => {
  it('holds ciphertext, other for equal keys and at each seal, and opens to what it was', async () => {
    const held = custody();
    const slots = [32, 32, 48, 1360].map((length) => filled(held, length, 0xab));
    const seals: string[] = [];
    for (let i = 0; i < 2; i++) {
      await held.seal(phrase);
      expect(held.status().sealed).toBe(true);
      for (const { bytes } of slots) {
        expect(allAre(bytes, 0xab)).toBe(false);
        seals.push(Buffer.from(bytes.subarray(0, 32)).toString('hex'));
      }
      expect(await held.unseal(phrase)).toBe(true);
      expect(held.status().sealed).toBe(false);
      for (const slot of slots) {
        expect(allAre(slot.bytes, 0xab)).toBe(true);
        expect(allAre(withTag(slot).subarray(-TAG_BYTES), 0), 'the tag is wiped').toBe(true);
      }
    }
    expect(new Set(seals).size).toBe(seals.length);
  });

  it('stays as it is after a wrong pass phrase, also one that the right one begins or ends with', async () => {
    const held = custody();
    const slot = filled(held, 32, 1);
    await held.seal(phrase);
    const before = Uint8Array.from(withTag(slot));
    for (const guess of [wrong, phrase.subarray(1), phrase.subarray(0, -1), Uint8Array.from([...phrase, 33])]) {
      expect(await held.unseal(guess)).toBe(false);
      expect(held.sealed).toBe(true);
      expect(withTag(slot)).toEqual(before);
    }
    expect(await held.unseal(phrase)).toBe(true);
    expect(allAre(slot.bytes, 1)).toBe(true);
  });

  it('leaves passing slots as they are, and gives out new ones, but none for a key', async () => {
    const held = custody();
    const passing = held.passing(64);
    passing.bytes.fill(4);
    const pending = held.seal(phrase);
    expect(
      codeOf(() => held.allocate(32)),
      'while it is being sealed',
    ).toBe('sealed');
    await pending;
    expect(codeOf(() => held.allocate(32))).toBe('sealed');
    expect(allAre(passing.bytes, 4)).toBe(true);
    held.passing(64).free();
    expect(await held.unseal(phrase)).toBe(true);
    expect(allAre(passing.bytes, 4)).toBe(true);
    held.allocate(32).free();
  });

  it('keeps no copy of the pass phrase: what it was given may change at once', async () => {
    const held = custody();
    const slot = filled(held, 32, 1);
    const given = Uint8Array.from(phrase);
    const pending = held.seal(given);
    given.fill(0);
    await pending;
    const guess = Uint8Array.from(phrase);
    const opening = held.unseal(guess);
    guess.fill(0);
    expect(await opening).toBe(true);
    expect(allAre(slot.bytes, 1)).toBe(true);
    slot.free();
    expect(held.status().usedBytes, 'no slot of its own is left').toBe(0);
  });

  it('lets slots be freed while it is sealed, being sealed or being opened, and opens the others', async () => {
    const held = custody();
    const [during, sealed, opening, kept] = [1, 2, 3, 4].map((value) => filled(held, 32, value)) as [
      Slot,
      Slot,
      Slot,
      Slot,
    ];
    const pending = held.seal(phrase);
    during.free();
    await pending;
    sealed.free();
    const unsealing = held.unseal(phrase);
    opening.free();
    expect(await unsealing).toBe(true);
    for (const slot of [during, sealed, opening]) expect(allAre(withTag(slot), 0)).toBe(true);
    expect(allAre(kept.bytes, 4)).toBe(true);
  });

  it('opens though every key was removed meanwhile', async () => {
    const held = custody();
    const slot = filled(held, 32, 1);
    await held.seal(phrase);
    slot.free();
    expect(held.status().usedBytes).toBe(0);
    expect(await held.unseal(wrong)).toBe(false);
    expect(await held.unseal(phrase)).toBe(true);
    expect(allAre(held.allocate(32).bytes, 0)).toBe(true);
  });

  it('is sealed once at a time and opened by one of two that come together', async () => {
    const held = custody();
    const slot = filled(held, 32, 1);
    expect(await held.unseal(phrase), 'nothing is sealed').toBe(false);
    const pending = held.seal(phrase);
    expect(await codeOfLater(held.seal(wrong))).toBe('sealed');
    expect(await held.unseal(phrase), 'not sealed yet').toBe(false);
    await pending;
    const opened = await Promise.all([held.unseal(phrase), held.unseal(phrase), held.unseal(wrong)]);
    expect(opened.filter((open) => open).length).toBe(1);
    expect(allAre(slot.bytes, 1)).toBe(true);
  });

  it('says so, and stays sealed, where the ciphertext was changed', async () => {
    const held = custody();
    const slot = filled(held, 32, 1);
    await held.seal(phrase);
    slot.bytes[5] = (slot.bytes[5] as number) ^ 1;
    expect(await codeOfLater(held.unseal(phrase))).toBe('internal');
    expect(held.sealed).toBe(true);
  });

  it('is not sealed where there is no room to derive a key, and loses nothing', async () => {
    const held = custody();
    const key = filled(held, 32, 6);
    const slots = fill(held);
    const { usedBytes } = held.status();
    expect(await codeOfLater(held.seal(phrase))).toBe('full');
    expect(held.status()).toMatchObject({ sealed: false, usedBytes });
    expect(allAre(key.bytes, 6)).toBe(true);
    for (const slot of slots) slot.free();
    await held.seal(phrase);
    expect(await held.unseal(phrase)).toBe(true);
    expect(allAre(key.bytes, 6)).toBe(true);
  });
});
