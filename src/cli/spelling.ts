/** Which known word a mistyped one was meant to be. */

/** Edits, a swap of neighbours being one, that a slip is taken for. */
const MAX_EDITS = 2;
/** Longer words are no slips. */
const MAX_CHARACTERS = 64;

/** The number of edits from `a` to `b` (optimal string alignment). */
function edits(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const at = (list: readonly number[], index: number): number => list[index] ?? Number.POSITIVE_INFINITY;
      const same = a[i - 1] === b[j - 1];
      let best = Math.min(at(row, j) + 1, at(next, j - 1) + 1, at(row, j - 1) + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, at(before, j - 2) + 1);
      next.push(best);
    }
    before = row;
    row = next;
  }
  return row[b.length] ?? Number.POSITIVE_INFINITY;
}

/** The one of `known` that is nearest to `word`; undefined: none is near. */
export function closest(word: string, known: readonly string[]): string | undefined {
  if (word.length > MAX_CHARACTERS) return undefined;
  const given = word.toLowerCase();
  let found: string | undefined;
  let least = Math.min(MAX_EDITS, Math.floor(word.length / 2)) + 1;
  for (const candidate of known) {
    const distance = edits(given, candidate.toLowerCase());
    if (distance >= least) continue;
    least = distance;
    found = candidate;
  }
  return found;
}
