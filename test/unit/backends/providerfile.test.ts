import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { missingExport } from '../../../src/backends/providerfile.ts';
import { fill, raw, u32 } from '../wire/build.ts';

describe('the symbols of a file', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'latchkey-symbols-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  const look = (content: Uint8Array, name: string): string | undefined => {
    const path = join(folder, 'file');
    writeFileSync(path, content);
    return missingExport(path, name);
  };

  const half = (value: number): Uint8Array => raw(value & 255, value >> 8);
  const word = (value: number): Uint8Array => raw(half(value & 0xffff), half(value >>> 16));
  const long = (value: number): Uint8Array => raw(word(value), word(0));

  /** A 64-bit ELF object: header, two symbols (the second is ours), strings, three sections. */
  function elf(
    options: { info?: number; other?: number; section?: number; type?: number; symbols?: number } = {},
  ): Uint8Array {
    const { info = 0x12, other = 0, section = 1, type = 3, symbols = 48 } = options;
    const strings = raw(0, 'C_GetFunctionList', 0);
    const header = raw(
      0x7f,
      'ELF',
      2,
      1,
      1,
      fill(9, 0),
      half(type),
      half(62),
      word(1),
      long(0),
      long(0),
      long(64 + 48 + strings.length),
      word(0),
      half(64),
      half(0),
      half(0),
      half(64),
      half(3),
      half(0),
    );
    const symbol = raw(word(1), info, other, half(section), long(0), long(0));
    const row = (kind: number, offset: number, size: number, link: number): Uint8Array =>
      raw(word(0), word(kind), long(0), long(0), long(offset), long(size), word(link), word(0), long(0), long(24));
    return raw(
      header,
      fill(24, 0),
      symbol,
      strings,
      fill(64, 0),
      row(11, 64, symbols, 2),
      row(3, 64 + 48, strings.length, 0),
    );
  }

  test('of ELF: a global function that is there', () => {
    expect(look(elf(), 'C_GetFunctionList')).toBeUndefined();
    expect(look(elf({ info: 0x22 }), 'C_GetFunctionList')).toBeUndefined();
    expect(look(elf(), 'C_GetFunction')).toBe('it has no C_GetFunction');
    expect(look(elf(), 'GetFunctionList')).toBe('it has no GetFunctionList');
  });

  test.each([
    ['undefined', { section: 0 }],
    ['local', { info: 0x02 }],
    ['data', { info: 0x11 }],
    ['hidden', { other: 2 }],
    ['beyond its table', { symbols: 24 }],
  ])('of ELF: none that is %s', (_, options) => {
    expect(look(elf(options), 'C_GetFunctionList')).toBe('it has no C_GetFunctionList');
  });

  test('of a program are not looked at', () => {
    expect(look(elf({ type: 2 }), 'C_GetFunctionList')).toBe('it is a program or an object file');
  });

  test('of a file that lies about its tables end in words', () => {
    const whole = elf();
    for (let length = 0; length < whole.length - 1; length++)
      expect(look(whole.subarray(0, length), 'C_GetFunctionList')).toEqual(expect.any(String));
    expect(look(elf({ symbols: 0x7fffffff }), 'C_GetFunctionList')).toBe('its tables are too large');
    for (let at = 0; at < whole.length; at++) {
      const spoilt = whole.slice();
      spoilt[at] = 0xff;
      look(spoilt, 'C_GetFunctionList');
    }
  });

  test('of Mach-O, thin and fat', () => {
    const macho = (kind: number, name: string): Uint8Array => {
      const strings = raw(0, name, 0);
      const command = raw(word(2), word(24), word(32 + 24), word(1), word(32 + 24 + 16), word(strings.length));
      const symbol = raw(word(1), kind, 1, half(0), long(0));
      return raw(
        word(0xfeedfacf),
        word(0x0100000c),
        word(0),
        word(6),
        word(1),
        word(24),
        word(0),
        word(0),
        command,
        symbol,
        strings,
      );
    };
    const good = macho(0x0f, '_C_GetFunctionList');
    expect(look(good, 'C_GetFunctionList')).toBeUndefined();
    expect(look(macho(0x01, '_C_GetFunctionList'), 'C_GetFunctionList')).toBe('it has no C_GetFunctionList');
    expect(look(macho(0x0e, '_C_GetFunctionList'), 'C_GetFunctionList')).toBe('it has no C_GetFunctionList');
    expect(look(macho(0x0f, 'C_GetFunctionList'), 'C_GetFunctionList')).toBe('it has no C_GetFunctionList');
    const fat = (...slices: Uint8Array[]): Uint8Array => {
      let at = 8 + 20 * slices.length;
      const rows = slices.map((slice) => {
        const row = raw(u32(0), u32(0), u32(at), u32(slice.length), u32(0));
        at += slice.length;
        return row;
      });
      return raw(u32(0xcafebabe), u32(slices.length), ...rows, ...slices);
    };
    expect(look(fat(good, good), 'C_GetFunctionList')).toBeUndefined();
    expect(look(fat(good, macho(1, '_C_GetFunctionList')), 'C_GetFunctionList')).toBe('it has no C_GetFunctionList');
  });

  test('of this Node, which is a program', () => {
    expect(missingExport(process.execPath, 'C_GetFunctionList')).toMatch(/no C_GetFunctionList|program/);
  });
});
