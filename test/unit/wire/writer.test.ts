import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Reader } from '../../../src/wire/reader.ts';
import { Writer } from '../../../src/wire/writer.ts';
import { fill, raw, str, u32, u64 } from './build.ts';
import { expectWireError } from './thrown.ts';

const written = (write: (writer: Writer) => unknown): Uint8Array => {
  const writer = new Writer();
  write(writer);
  return writer.finish();
};

describe('each type', () => {
  it('writes numbers big-endian', () => {
    expect(written((w) => w.u8(0).u8(255))).toEqual(raw(0, 255));
    expect(written((w) => w.u32(0x01020304).u32(0xffffffff))).toEqual(raw(u32(0x01020304), u32(0xffffffff)));
    expect(written((w) => w.u64(0x0102030405060708n).u64(2n ** 64n - 1n))).toEqual(
      raw(u64(0x0102030405060708n), u64(2n ** 64n - 1n)),
    );
    expect(written((w) => w.bool(true).bool(false))).toEqual(raw(1, 0));
  });

  it.each([-1, 2 ** 32, 2 ** 32 + 60, 1.5, Number.NaN, Number.POSITIVE_INFINITY])(
    'refuses %d for a u32: a lifetime must not become another one',
    (value) => {
      expectWireError(() => new Writer().u32(value), 'bad-value');
    },
  );

  it('refuses what does not fit a u8 or a u64', () => {
    for (const value of [-1, 256, 0.5, Number.NaN]) expectWireError(() => new Writer().u8(value), 'bad-value');
    for (const value of [-1n, 2n ** 64n]) expectWireError(() => new Writer().u64(value), 'bad-value');
  });

  it('writes nothing of a number that it refuses', () => {
    const writer = new Writer().u8(1);
    for (const act of [() => writer.u8(256), () => writer.u32(-1), () => writer.u64(2n ** 64n)])
      expectWireError(act, 'bad-value');
    expect(writer.finish()).toEqual(raw(1));
  });

  it('writes strings, texts and plain bytes', () => {
    expect(written((w) => w.string(raw(1, 2)).string(raw()))).toEqual(raw(str(1, 2), str()));
    expect(written((w) => w.text('é').text(''))).toEqual(raw(str(0xc3, 0xa9), str()));
    expect(written((w) => w.bytes(raw(1, 2)))).toEqual(raw(1, 2));
  });

  it('writes an mpint in its shortest form, with a sign byte where it needs one', () => {
    expect(written((w) => w.mpint(raw()))).toEqual(str());
    expect(written((w) => w.mpint(raw(0, 0)))).toEqual(str());
    expect(written((w) => w.mpint(raw(0x7f)))).toEqual(str(0x7f));
    expect(written((w) => w.mpint(raw(0x80)))).toEqual(str(0, 0x80));
    expect(written((w) => w.mpint(raw(0, 0, 0x80, 0)))).toEqual(str(0, 0x80, 0));
  });

  it('nests strings, also when it grows inside of one', () => {
    const long = fill(10_000, 7);
    const bytes = written((w) =>
      w
        .u8(1)
        .nested((outer) =>
          outer
            .u8(2)
            .nested((inner) => inner.bytes(long))
            .nested(() => {}),
        )
        .u8(3),
    );
    expect(bytes).toEqual(raw(1, str(2, str(long), str()), 3));
  });
});

/** The array that a writer holds now. */
const held = (writer: Writer): Uint8Array => new Uint8Array(writer.view().buffer);

describe('memory', () => {
  it('clears the buffer that it leaves when it grows', () => {
    const writer = new Writer(8).bytes(fill(8, 0xaa));
    const old = held(writer);
    expect(old).toEqual(fill(8, 0xaa));
    writer.u8(1);
    expect(held(writer).buffer).not.toBe(old.buffer);
    expect(old).toEqual(fill(8, 0));
    expect(writer.finish()).toEqual(raw(fill(8, 0xaa), 1));
  });

  it('clears every buffer on the way through many growths', () => {
    const writer = new Writer(1);
    const left: Uint8Array[] = [];
    for (let i = 0; i < 5000; i++) {
      const before = held(writer);
      writer.u8(0xaa);
      if (held(writer).buffer !== before.buffer) left.push(before);
    }
    expect(left.length).toBeGreaterThan(5);
    for (const buffer of left) expect(buffer.every((byte) => byte === 0)).toBe(true);
    expect(writer.finish()).toEqual(fill(5000, 0xaa));
  });

  it('wipe clears all of the buffer, views of it too, and starts anew', () => {
    const writer = new Writer(16).bytes(fill(10, 0xaa));
    const view = writer.view();
    const whole = held(writer);
    writer.wipe();
    expect(view).toEqual(fill(10, 0));
    expect(whole).toEqual(fill(16, 0));
    expect(writer.length).toBe(0);
    expect(writer.u8(5).finish()).toEqual(raw(5));
  });

  it('finish gives a copy, view does not', () => {
    const writer = new Writer().u8(1);
    const copy = writer.finish();
    const view = writer.view();
    writer.wipe();
    expect(copy).toEqual(raw(1));
    expect(view).toEqual(raw(0));
  });

  it('keeps what it writes apart from what it was given', () => {
    const given = raw(1, 2);
    const writer = new Writer().string(given);
    given.fill(9);
    expect(writer.finish()).toEqual(str(1, 2));
  });

  it('starts from a capacity of 0', () => {
    expect(new Writer(0).u8(1).u32(2).finish()).toEqual(raw(1, u32(2)));
  });

  it('leaves no content behind a nested string whose writing fails', () => {
    const writer = new Writer().u8(1);
    expect(() =>
      writer.nested((inner) => {
        inner.u8(7);
        throw new Error('no');
      }),
    ).toThrow('no');
    writer.wipe();
    expect(held(writer).every((byte) => byte === 0)).toBe(true);
  });
});

describe('with the Reader', () => {
  it('gives back what went in', () => {
    const magnitude = fc.uint8Array({ maxLength: 300 }).filter((bytes) => bytes[0] !== 0);
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 255 }),
        fc.integer({ min: 0, max: 0xffffffff }),
        fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        fc.uint8Array({ maxLength: 300 }),
        magnitude,
        (a, b, c, d, e) => {
          const bytes = new Writer(1).u8(a).u32(b).u64(c).string(d).mpint(e).finish();
          const reader = new Reader(bytes);
          expect([reader.u8('a'), reader.u32('b'), reader.u64('c')]).toEqual([a, b, c]);
          expect(reader.string('d')).toEqual(d);
          expect(reader.mpint('e')).toEqual(e);
          reader.end('all');
        },
      ),
    );
  });
});
