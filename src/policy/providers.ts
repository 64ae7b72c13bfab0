/**
 * Which PKCS#11 and FIDO providers may be loaded: ssh-agent's -P, a pattern list over canonical paths (OPENSSH.md
 * section 1). Pure: whoever asks has followed every symbolic link first, or the list would say nothing.
 */
import { matchGlob } from '../keys/glob.ts';

/** OpenSSH's DEFAULT_ALLOWED_PROVIDERS. */
export const DEFAULT_PROVIDERS = '/usr/lib*/*,/usr/local/lib*/*';

/** OpenSSH's bound for one pattern of a list, in characters; a list with a longer one allows nothing there either. */
export const MAX_PROVIDER_PATTERN = 1023;

export interface ProviderPattern {
  readonly glob: string;
  /** With a ! in front: what matches it is refused, whatever else matches. */
  readonly negated: boolean;
}

/**
 * Reads a comma-separated list. Blanks count, as in OpenSSH.
 * @returns undefined where a pattern is too long
 */
export function parseProviderPatterns(list: string): readonly ProviderPattern[] | undefined {
  const patterns = list.split(',').map((pattern) => {
    const negated = pattern.startsWith('!');
    return { glob: negated ? pattern.slice(1) : pattern, negated };
  });
  return patterns.every(({ glob }) => glob.length <= MAX_PROVIDER_PATTERN) ? patterns : undefined;
}

/** Whether some pattern matches `path` and no negated one does. A `*` matches `/` as well. */
export function allowsProvider(patterns: readonly ProviderPattern[], path: string): boolean {
  // Only a canonical path means what its pattern says: /usr/lib/../../tmp/x.so begins like an allowed one.
  if (!path.startsWith('/') || /(^|\/)\.{0,2}(\/|$)/.test(path.slice(1))) return false;
  const matching = patterns.filter(({ glob }) => matchGlob(path, glob));
  return matching.length > 0 && matching.every(({ negated }) => !negated);
}
