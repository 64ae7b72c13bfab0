/**
 * Names that look like other names: letters of several alphabets in one word, and letters that pass for those of ASCII.
 * Not told: what looks alike within ASCII (0 and O, rn and m), and whole words of one foreign alphabet that merely
 * resemble another word. Unicode's UTS 39 has far longer tables; here is what a host or user name can be forged with.
 */

const alphabets: readonly RegExp[] = [
  /\p{Script=Latin}/u,
  // Japanese and Korean write with these together.
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Bopomofo}]/u,
  /\p{Script=Cyrillic}/u,
  /\p{Script=Greek}/u,
  /\p{Script=Armenian}/u,
  /\p{Script=Georgian}/u,
  /\p{Script=Cherokee}/u,
  /\p{Script=Coptic}/u,
  /\p{Script=Lisu}/u,
  /\p{Script=Hebrew}/u,
  /\p{Script=Arabic}/u,
];
const LATIN = 0;
const EAST_ASIAN = 1;
const OTHER = alphabets.length;

/** Cyrillic, Greek, Armenian and Lisu letters, and Latin ones beyond ASCII, that pass for letters of ASCII. */
// Not a literal: the bundler escapes strings alone, and a program that is not ASCII takes twice the memory.
const LETTERS = '[аеорсухіјѕԁһӏԛԝґƅкмтвнАВЕКМНОРСТУХІЈЅҮԌΑΒΕΖΗΙΚΜΝΟΡΤΥΧαονρικυγոսցհօքյԼՕՍՏıȷɡɑɩɪɴʀʟʏɢʜʙʋƖǀᴀ-ᴢꞁꓐ-ꓽ]';
const PASSING = new RegExp(LETTERS, 'u');

/** Whether `word`, letters alone, is made of those that pass for ASCII, apart from ASCII itself. */
function passesForAscii(word: string): boolean {
  let passing = 0;
  for (const letter of word) {
    if (/[A-Za-z]/.test(letter)) continue;
    if (!PASSING.test(letter)) return false;
    passing++;
  }
  return passing > 0;
}

function alphabetsIn(word: string): Set<number> {
  const found = new Set<number>();
  for (const letter of word) {
    if (!/\p{L}/u.test(letter) || /[\p{Script=Common}\p{Script=Inherited}]/u.test(letter)) continue;
    const alphabet = alphabets.findIndex((one) => one.test(letter));
    found.add(alphabet === -1 ? OTHER : alphabet);
  }
  return found;
}

/** What a reader should be warned of in `name`; undefined: nothing. One of two fixed texts. */
export function lookAlike(name: string): 'mixed alphabets!' | 'look-alike letters!' | undefined {
  if (/^[\x00-\x7f]*$/.test(name)) return undefined;
  const words = name.match(/[\p{L}\p{M}]+/gu) ?? [];
  for (const word of words) {
    const found = alphabetsIn(word);
    if (found.size > 1 && !(found.size === 2 && found.has(LATIN) && found.has(EAST_ASIAN))) return 'mixed alphabets!';
  }
  // Wide, mathematical and other letters that Unicode itself says are those of ASCII in another dress.
  const isDressed = /[A-Za-z0-9./@:-]/.test(name.replace(/[\x00-\x7f\u2026]/g, '').normalize('NFKC'));
  if (isDressed || words.some(passesForAscii)) return 'look-alike letters!';
  return undefined;
}
