/** Host names hidden in known_hosts: |1|salt|hash, where hash is HMAC-SHA1 of the name under the salt (hostfile.c). */
import { createHmac } from 'node:crypto';
import { equal, fromBase64, utf8 } from '../wire/bytes.ts';

const HASHED = /^\|1\|([^|]+)\|([^|]+)$/;
/** Salt and hash both have this length; OpenSSH takes no other. */
const SHA1_BYTES = 20;

/** Whether `hashed` hides `host`, byte for byte: who wants lower case lowers it before. False for a malformed one. */
export function hashedHostMatches(hashed: string, host: string): boolean {
  const parts = HASHED.exec(hashed);
  if (parts === null) return false;
  const salt = fromBase64(parts[1] as string);
  const hash = fromBase64(parts[2] as string);
  if (salt?.length !== SHA1_BYTES || hash?.length !== SHA1_BYTES) return false;
  return equal(createHmac('sha1', salt).update(utf8(host)).digest(), hash);
}
