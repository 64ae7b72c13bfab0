/**
 * Which PKCS#11 and FIDO providers may be loaded: ssh-agent's -P, a pattern list over canonical paths (OPENSSH.md
 * section 1). Pure: whoever asks has followed every symbolic link first, or the list would say nothing.
 */
import { matchPatternList } from './patternlist.ts';

/** OpenSSH's DEFAULT_ALLOWED_PROVIDERS. */
export const DEFAULT_PROVIDERS = '/usr/lib*/*,/usr/local/lib*/*';

/** Whether `list` allows the file at `path`. A `*` matches `/` as well. */
export function allowsProvider(list: string, path: string): boolean {
  // Only a canonical path means what its pattern says: /usr/lib/../../tmp/x.so begins like an allowed one.
  if (!path.startsWith('/') || /(^|\/)\.{0,2}(\/|$)/.test(path.slice(1))) return false;
  return matchPatternList(path, list);
}
