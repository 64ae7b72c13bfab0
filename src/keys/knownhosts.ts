/**
 * What known_hosts files say about a host (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): names plain, hashed, with wildcards
 * and negated; @cert-authority and @revoked. Lines are matched as ssh-add -h does: against the name as given, with no
 * look-up of addresses or ports; but in lower case against hashed names too, which ssh writes so. Comments and malformed
 * lines are passed over. Keys for a host are looked for in all lines; names for a key in an index, made once.
 */

import { base64 } from '../wire/bytes.ts';
import type { HopKey } from '../wire/constraints.ts';
import { type Certificate, isHostCertificateFor } from './certificate.ts';
import { matchGlob } from './glob.ts';
import { hashedHostMatches } from './hostname.ts';
import { type PublicKey, parsePublicKeyLine } from './publickey.ts';

export interface KnownHostsFile {
  readonly path: string;
  readonly content: string;
}

/** OpenSSH's match_pattern_list gives up at a longer pattern, and so on the whole line. */
export const MAX_PATTERN_CHARACTERS = 1022;

type Marker = '' | '@cert-authority' | '@revoked';

interface Line {
  readonly marker: Marker;
  readonly hosts: string;
  readonly keyType: string;
  /** Base64, not yet read. */
  readonly keyData: string;
}

/** The two markers, host patterns, and a key: three words at least. */
const LINE = /^[ \t]*(?:(@cert-authority|@revoked)[ \t]+)?([^ \t@#][^ \t]*)[ \t]+([^ \t]+)[ \t]+([^ \t]+)/;

function* linesOf(files: readonly KnownHostsFile[]): Generator<Line> {
  for (const { content } of files) {
    let start = 0;
    while (start < content.length) {
      const newline = content.indexOf('\n', start);
      const end = newline === -1 ? content.length : newline;
      let text = content.slice(start, end);
      start = end + 1;
      if (text.endsWith('\r')) text = text.slice(0, -1);
      const parts = LINE.exec(text);
      if (parts === null) continue;
      const [, marker = '', hosts = '', keyType = '', keyData = ''] = parts;
      yield { marker: marker as Marker, hosts, keyType, keyData };
    }
  }
}

/** Lower case of A to Z alone: toLowerCase would make other letters into some of these (the Kelvin sign into k). */
function lower(name: string): string {
  return /[A-Z]/.test(name) ? name.replace(/[A-Z]+/g, (letters) => letters.toLowerCase()) : name;
}

/** Whether a line's host field names `host` (in lower case): some pattern does, and none that is negated. */
function namesHost(hosts: string, host: string): boolean {
  if (hosts.startsWith('|')) return hashedHostMatches(hosts, host);
  let named = false;
  for (const word of lower(hosts).split(',')) {
    const negated = word.startsWith('!');
    const pattern = negated ? word.slice(1) : word;
    if (pattern.length > MAX_PATTERN_CHARACTERS) return false;
    // Nearly all are plain names: comparing strings spares encoding each of them.
    if (pattern !== host && !(/[*?]/.test(pattern) && matchGlob(host, pattern))) continue;
    if (negated) return false;
    named = true;
  }
  return named;
}

/** A key that may stand in known_hosts, or undefined: certificates don't, authorities stand there by their own key. */
function readKey(line: Line): PublicKey | undefined {
  try {
    const { key } = parsePublicKeyLine(`${line.keyType} ${line.keyData}`);
    return key.certificate === undefined ? key : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The keys that `files` have for `host` ('example.com', '[example.com]:2222'), each once, in the order of the lines. A
 * key that is revoked for that host in any of the files is left out, as host key and as authority.
 */
export function hostKeysFor(host: string, files: readonly KnownHostsFile[]): readonly HopKey[] {
  if (host === '') return [];
  const name = lower(host);
  const revoked = new Set<string>();
  const found = new Map<string, { readonly id: string; readonly key: HopKey }>();
  for (const line of linesOf(files)) {
    if (!namesHost(line.hosts, name)) continue;
    const key = readKey(line);
    if (key === undefined) continue;
    const id = base64(key.plainBlob);
    if (line.marker === '@revoked') {
      revoked.add(id);
      continue;
    }
    const isAuthority = line.marker === '@cert-authority';
    const entry = `${isAuthority} ${id}`;
    if (!found.has(entry)) found.set(entry, { id, key: { blob: key.plainBlob, isAuthority } });
  }
  return [...found.values()].filter(({ id }) => !revoked.has(id)).map(({ key }) => key);
}

export interface HostNames {
  /** Names that stand in clear for this key, or were confirmed; patterns with wildcards are no names. */
  readonly names: readonly string[];
  /** Hashed lines with this key that no candidate opened. */
  readonly hidden: number;
  /** Whether some line revokes the key, or the authority that certifies it: then it has no names. */
  readonly isRevoked?: boolean;
}

/** Lines by the key that stands in them. */
export interface KnownHostsIndex {
  readonly hosts: ReadonlyMap<string, readonly string[]>;
  readonly authorities: ReadonlyMap<string, readonly string[]>;
  readonly revoked: ReadonlySet<string>;
}

/** Hashed names of one key that are tried with candidates: some milliseconds' worth. The others stay hidden. */
export const MAX_HASHED_TRIES = 4096;

export function indexKnownHosts(files: readonly KnownHostsFile[]): KnownHostsIndex {
  const hosts = new Map<string, string[]>();
  const authorities = new Map<string, string[]>();
  const revoked = new Set<string>();
  for (const { marker, hosts: field, keyData } of linesOf(files)) {
    if (marker === '@revoked') {
      revoked.add(keyData);
      continue;
    }
    const lines = marker === '' ? hosts : authorities;
    const listed = lines.get(keyData);
    if (listed === undefined) lines.set(keyData, [field]);
    else listed.push(field);
  }
  return { hosts, authorities, revoked };
}

/** Names in lines that hold the very key. */
function plainNames(fields: readonly string[], candidates: readonly string[]): { names: Set<string>; hidden: number } {
  const names = new Set<string>();
  let hidden = 0;
  let tries = 0;
  for (const field of fields) {
    if (field.startsWith('|')) {
      tries += candidates.length;
      const opened =
        tries > MAX_HASHED_TRIES ? undefined : candidates.find((candidate) => hashedHostMatches(field, candidate));
      if (opened === undefined) hidden++;
      else names.add(opened);
    } else {
      for (const name of lower(field).split(','))
        if (name !== '' && !name.startsWith('!') && !/[*?]/.test(name)) names.add(name);
    }
  }
  return { names, hidden };
}

/** '[db1]:2222' without its port, which certificates don't have. */
function withoutPort(name: string): string {
  return /^\[(.*)\]:\d+$/.exec(name)?.[1] ?? name;
}

/** Names that `certificate` is good for and that the lines of its authority, `fields`, cover. */
function certifiedNames(
  certificate: Certificate,
  fields: readonly string[],
  candidates: readonly string[],
  nowSeconds: number,
): readonly string[] {
  // ssh asks in lower case: a principal with other letters is nobody's name.
  const principals = certificate.principals.filter((name) => name === lower(name) && !/[*?]/.test(name));
  return [...candidates, ...principals].filter((name) => {
    const bare = withoutPort(name);
    return (
      bare !== '' &&
      isHostCertificateFor(certificate, bare, nowSeconds) &&
      fields.some((field) => namesHost(field, name) || namesHost(field, bare))
    );
  });
}

/**
 * The names that known_hosts has for the host key `key`, each once, and those that it is certified for by an authority that
 * known_hosts trusts with them. A hashed name is told only if it is in `candidates`.
 * @param nowSeconds since 1970
 */
export function hostNamesOf(
  key: PublicKey,
  index: KnownHostsIndex,
  candidates: readonly string[],
  nowSeconds: number,
): HostNames {
  const { certificate } = key;
  const own = base64(key.plainBlob);
  const authority = certificate === undefined ? undefined : base64(certificate.authority.plainBlob);
  if (index.revoked.has(own) || (authority !== undefined && index.revoked.has(authority)))
    return { names: [], hidden: 0, isRevoked: true };
  const lowered = candidates.map(lower);
  const { names, hidden } = plainNames(index.hosts.get(own) ?? [], lowered);
  const trusted = authority === undefined ? undefined : index.authorities.get(authority);
  if (certificate !== undefined && trusted !== undefined)
    for (const name of certifiedNames(certificate, trusted, lowered, nowSeconds)) names.add(name);
  return { names: [...names], hidden };
}
