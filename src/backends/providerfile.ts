/**
 * Whether a file is a shared object that exports a function, read from its symbol table: loading it to find out would run
 * its constructors, which is how CVE-2023-38408 worked. ELF (both sizes and byte orders) by its section table, Mach-O
 * (64 bits, thin or fat) by LC_SYMTAB. Not read: objects without a section table, which no linker writes.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';

/** Largest table read, in bytes: a library of 100,000 symbols has some 8 MB of them. */
const MAX_TABLE_BYTES = 32 * 1024 * 1024;
const MAX_SECTIONS = 0xffff;
const MAX_LOAD_COMMANDS = 4096;
const MAX_ARCHITECTURES = 16;

/** Reads `length` bytes at `offset`. @throws NotAnObject where they aren't there */
type Read = (offset: number, length: number) => DataView;

class NotAnObject extends Error {}

const CUT = 'it ends before its own tables';

function bounded(value: number | bigint, max: number): number {
  if (value > max) throw new NotAnObject('its tables are too large');
  return Number(value);
}

const ET_DYN = 3;
const SHT_DYNSYM = 11;
const SHN_UNDEF = 0;
const STB_GLOBAL = 1;
const STB_WEAK = 2;
const STT_FUNC = 2;
const STT_GNU_IFUNC = 10;
const STV_INTERNAL = 1;
const STV_HIDDEN = 2;

/** Whether the string at `at` of `table` is `name`. */
function isNamed(table: DataView, at: number, name: string): boolean {
  if (at + name.length >= table.byteLength) return false;
  for (let i = 0; i < name.length; i++) if (table.getUint8(at + i) !== name.charCodeAt(i)) return false;
  return table.getUint8(at + name.length) === 0;
}

function elfExports(read: Read, name: string): boolean {
  const identity = read(0, 16);
  const wide = identity.getUint8(4) === 2;
  const little = identity.getUint8(5) === 1;
  const header = read(0, wide ? 64 : 52);
  if (header.getUint16(16, little) !== ET_DYN) throw new NotAnObject('it is a program or an object file');
  const word = (view: DataView, at: number): number =>
    wide ? bounded(view.getBigUint64(at, little), Number.MAX_SAFE_INTEGER) : view.getUint32(at, little);
  const sectionsAt = word(header, wide ? 40 : 32);
  const [size, count] = [header.getUint16(wide ? 58 : 46, little), header.getUint16(wide ? 60 : 48, little)];
  const entry = wide ? 64 : 40;
  if (sectionsAt === 0 || count === 0 || size !== entry) throw new NotAnObject('it has no section table');
  const sections = read(sectionsAt, bounded(count, MAX_SECTIONS) * entry);
  const place = (index: number): readonly [number, number] => {
    if (index >= count) throw new NotAnObject(CUT);
    const at = index * entry;
    return [word(sections, at + (wide ? 24 : 16)), bounded(word(sections, at + (wide ? 32 : 20)), MAX_TABLE_BYTES)];
  };
  for (let index = 0; index < count; index++) {
    if (sections.getUint32(index * entry + 4, little) !== SHT_DYNSYM) continue;
    const symbols = read(...place(index));
    const names = read(...place(sections.getUint32(index * entry + (wide ? 40 : 24), little)));
    const step = wide ? 24 : 16;
    for (let at = 0; at + step <= symbols.byteLength; at += step) {
      const info = symbols.getUint8(at + (wide ? 4 : 12));
      const visibility = symbols.getUint8(at + (wide ? 5 : 13)) & 3;
      const section = symbols.getUint16(at + (wide ? 6 : 14), little);
      const global = info >> 4 === STB_GLOBAL || info >> 4 === STB_WEAK;
      const isFunction = (info & 15) === STT_FUNC || (info & 15) === STT_GNU_IFUNC;
      if (section === SHN_UNDEF || !global || !isFunction) continue;
      if (visibility === STV_INTERNAL || visibility === STV_HIDDEN) continue;
      if (isNamed(names, symbols.getUint32(at, little), name)) return true;
    }
  }
  return false;
}

const MH_MAGIC_64 = 0xfeedfacf;
const FAT_MAGIC = 0xcafebabe;
const MH_DYLIB = 6;
const MH_BUNDLE = 8;
const LC_SYMTAB = 2;
const N_STAB = 0xe0;
const N_TYPE = 0x0e;
const N_EXT = 1;

function machoExports(read: Read, start: number, name: string): boolean {
  const header = read(start, 32);
  const type = header.getUint32(12, true);
  if (type !== MH_DYLIB && type !== MH_BUNDLE) throw new NotAnObject('it is a program or an object file');
  const count = bounded(header.getUint32(16, true), MAX_LOAD_COMMANDS);
  const commands = read(start + 32, bounded(header.getUint32(20, true), MAX_TABLE_BYTES));
  let at = 0;
  for (let i = 0; i < count && at + 8 <= commands.byteLength; i++) {
    const length = commands.getUint32(at + 4, true);
    if (commands.getUint32(at, true) === LC_SYMTAB && at + 24 <= commands.byteLength) {
      const symbols = read(
        start + commands.getUint32(at + 8, true),
        bounded(commands.getUint32(at + 12, true) * 16, MAX_TABLE_BYTES),
      );
      const names = read(
        start + commands.getUint32(at + 16, true),
        bounded(commands.getUint32(at + 20, true), MAX_TABLE_BYTES),
      );
      for (let symbol = 0; symbol < symbols.byteLength; symbol += 16) {
        const kind = symbols.getUint8(symbol + 4);
        const isExported = (kind & N_STAB) === 0 && (kind & N_EXT) !== 0 && (kind & N_TYPE) !== 0;
        if (isExported && isNamed(names, symbols.getUint32(symbol, true), `_${name}`)) return true;
      }
    }
    if (length < 8) break;
    at += length;
  }
  return false;
}

function objectExports(read: Read, name: string): boolean {
  const magic = read(0, 4);
  if (magic.getUint32(0) === 0x7f454c46) return elfExports(read, name);
  if (magic.getUint32(0, true) === MH_MAGIC_64) return machoExports(read, 0, name);
  if (magic.getUint32(0) === FAT_MAGIC) {
    const count = bounded(read(4, 4).getUint32(0), MAX_ARCHITECTURES);
    const table = read(8, count * 20);
    // Each of them: which one the loader takes is not for us to guess.
    return Array.from({ length: count }, (_, i) => table.getUint32(i * 20 + 8)).every(
      (at) => read(at, 4).getUint32(0, true) === MH_MAGIC_64 && machoExports(read, at, name),
    );
  }
  throw new NotAnObject('it is no shared library');
}

/** Why the file at `path` is no shared library that exports the function `name`; undefined where it is one. */
export function missingExport(path: string, name: string): string | undefined {
  let fd: number;
  try {
    // Not to wait for a writer where it is a named pipe.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    return `it can't be opened (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`;
  }
  try {
    if (!fstatSync(fd).isFile()) return 'it is no file';
    const read: Read = (offset, length) => {
      const bytes = new Uint8Array(length);
      let got = 0;
      while (got < length) {
        const more = readSync(fd, bytes, got, length - got, offset + got);
        if (more === 0) throw new NotAnObject(CUT);
        got += more;
      }
      return new DataView(bytes.buffer);
    };
    return objectExports(read, name) ? undefined : `it has no ${name}`;
  } catch (error) {
    if (error instanceof NotAnObject) return error.message;
    return `it can't be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`;
  } finally {
    closeSync(fd);
  }
}
