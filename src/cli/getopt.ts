/**
 * POSIX getopt as OpenSSH's programs use it: single letters that may be joined, an argument in the same word or the
 * next, an end at the first operand, at `-` or after `--`. Long options are an addition: only those that are named.
 */

export type Option =
  | { readonly kind: 'letter'; readonly letter: string; readonly value?: string }
  | { readonly kind: 'long'; readonly name: string }
  /** The line that OpenSSH prints before its usage. */
  | { readonly kind: 'error'; readonly text: string };

export interface ParsedArguments {
  /** In the order given, up to and including the first error. */
  readonly options: readonly Option[];
  readonly operands: readonly string[];
}

/**
 * @param letters getopt's string: each letter, followed by a colon where it takes an argument
 * @param longNames names without their dashes; none of them takes an argument
 */
export function getopt(argv: readonly string[], letters: string, longNames: readonly string[] = []): ParsedArguments {
  const options: Option[] = [];
  let at = 0;
  for (; at < argv.length; at++) {
    const word = argv[at] as string;
    if (word === '--') {
      at++;
      break;
    }
    if (!word.startsWith('-') || word === '-') break;
    if (word.startsWith('--') && longNames.includes(word.slice(2))) {
      options.push({ kind: 'long', name: word.slice(2) });
      continue;
    }
    for (let i = 1; i < word.length; ) {
      // By code point, so that an error names the whole character.
      const letter = String.fromCodePoint(word.codePointAt(i) as number);
      i += letter.length;
      const place = letter === ':' ? -1 : letters.indexOf(letter);
      if (place < 0) {
        options.push({ kind: 'error', text: `unknown option -- ${letter}` });
        return { options, operands: [] };
      }
      if (letters[place + 1] !== ':') {
        options.push({ kind: 'letter', letter });
        continue;
      }
      const value = i < word.length ? word.slice(i) : argv[++at];
      if (value === undefined) {
        options.push({ kind: 'error', text: `option requires an argument -- ${letter}` });
        return { options, operands: [] };
      }
      options.push({ kind: 'letter', letter, value });
      break;
    }
  }
  return { options, operands: argv.slice(at) };
}
