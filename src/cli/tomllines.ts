/**
 * On which line each key of a TOML document stands, since the parser that reads the values does not tell. For documents
 * that were read already: what is no TOML gives lines that make no sense, but an end.
 */

export type TomlPath = readonly (string | number)[];

export interface TomlLines {
  /** The line, from 1, of the longest part of `path` that stands in the document; 1 where none does. */
  lineOf(path: TomlPath): number;
}

const BARE_KEY = /[A-Za-z0-9_-]+/y;
const BLANK = /[ \t]*/y;
/** Blanks, line ends and comments. */
const SPACE = /(?:[ \t\r\n]+|#[^\n]*)*/y;
const STRING = /"""(?:[^\\]|\\[\s\S])*?"{3,5}|'''[\s\S]*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'/y;
const SCALAR = /[^,\]}#\r\n]*/y;

class Scanner {
  readonly lines = new Map<string, number>();
  readonly #text: string;
  #at = 0;
  #line = 1;
  #counted = 0;
  /** How many tables each `[[...]]` has so far, by its path. */
  readonly #tables = new Map<string, number>();

  constructor(text: string) {
    this.#text = text;
    let table: TomlPath = [];
    for (this.#skip(SPACE); this.#at < text.length; this.#skip(SPACE)) {
      const before = this.#at;
      if (text[this.#at] === '[') table = this.#header();
      else this.#pair(table);
      // Nothing was understood: no document would be an endless loop.
      if (this.#at === before) this.#at++;
    }
  }

  #skip(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0] ?? '';
    this.#at += found.length;
    return found;
  }

  #take(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #note(path: TomlPath): void {
    for (; this.#counted < this.#at; this.#counted++) if (this.#text[this.#counted] === '\n') this.#line++;
    const key = JSON.stringify(path);
    if (!this.lines.has(key)) this.lines.set(key, this.#line);
  }

  #key(): string[] {
    const parts: string[] = [];
    do {
      this.#skip(BLANK);
      const quoted = this.#skip(STRING);
      parts.push(quoted === '' ? this.#skip(BARE_KEY) : unquoted(quoted));
      this.#skip(BLANK);
    } while (this.#take('.'));
    return parts;
  }

  /** Each table of an array by its number: the last one so far is meant wherever its name stands before others. */
  #numbered(parts: readonly string[]): (string | number)[] {
    const path: (string | number)[] = [];
    for (const part of parts) {
      path.push(part);
      const count = this.#tables.get(JSON.stringify(path));
      if (count !== undefined) path.push(count - 1);
    }
    return path;
  }

  #header(): TomlPath {
    const start = this.#at;
    this.#take('[');
    const isArray = this.#take('[');
    const parts = this.#key();
    this.#take(']');
    if (isArray) this.#take(']');
    const end = this.#at;
    if (isArray) {
      const name = parts.pop() ?? '';
      const key = JSON.stringify([...this.#numbered(parts), name]);
      this.#tables.set(key, (this.#tables.get(key) ?? 0) + 1);
      parts.push(name);
    }
    const path = this.#numbered(parts);
    this.#at = start;
    for (let length = 1; length <= path.length; length++) this.#note(path.slice(0, length));
    this.#at = end;
    return path;
  }

  #pair(table: TomlPath): void {
    const start = this.#at;
    const parts = this.#key();
    const end = this.#at;
    this.#at = start;
    for (let length = 1; length <= parts.length; length++) this.#note([...table, ...parts.slice(0, length)]);
    this.#at = end;
    if (!this.#take('=')) return;
    this.#skip(BLANK);
    this.#value([...table, ...parts]);
  }

  #value(path: TomlPath): void {
    if (this.#take('[')) {
      for (let i = 0; this.#more(']'); i++) {
        this.#note([...path, i]);
        this.#value([...path, i]);
        this.#separate(']');
      }
    } else if (this.#take('{')) {
      while (this.#more('}')) {
        this.#pair(path);
        this.#separate('}');
      }
    } else if (this.#skip(STRING) === '') this.#skip(SCALAR);
  }

  #more(end: string): boolean {
    this.#skip(SPACE);
    return this.#at < this.#text.length && !this.#take(end);
  }

  #separate(end: string): void {
    this.#skip(SPACE);
    // A comma, or what no document has here and would hold us up.
    if (this.#text[this.#at] !== end) this.#at++;
  }
}

function unquoted(quoted: string): string {
  if (quoted.startsWith("'")) return quoted.slice(1, -1);
  const escapes = /\\u([0-9A-Fa-f]{4})|\\U([0-9A-Fa-f]{8})|\\([btnfre"\\])/g;
  const letters: Readonly<Record<string, string>> = { b: '\b', t: '\t', n: '\n', f: '\f', r: '\r', e: '\u001b' };
  return quoted.slice(1, -1).replace(escapes, (_, four?: string, eight?: string, letter?: string) => {
    const code = Number.parseInt(four ?? eight ?? '', 16);
    return Number.isNaN(code) || code > 0x10ffff ? (letters[letter ?? ''] ?? letter ?? '') : String.fromCodePoint(code);
  });
}

export function tomlLines(text: string): TomlLines {
  const { lines } = new Scanner(text);
  return {
    lineOf(path) {
      for (let length = path.length; length > 0; length--) {
        const line = lines.get(JSON.stringify(path.slice(0, length)));
        if (line !== undefined) return line;
      }
      return 1;
    },
  };
}
