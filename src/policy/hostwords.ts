/** Hosts in a sentence: by their verified names, or by what is known instead of a name. */
import type { Host } from './facts.ts';
import { safe, shown } from './names.ts';

/** Characters of a host's name in a sentence; a line of its own has it whole. */
export const MAX_HOST_NAME = 56;
/** Characters of a fingerprint: SHA256 in base64. */
const MAX_FINGERPRINT = 64;
/** Hosts on the way that are named; of more, the ones at both ends. */
const MAX_HOPS = 3;

export const NOBODY_VERIFIED = 'a host that nobody verified';

export interface HostWords {
  readonly text: string;
  /** Whether the text is names, all of them verified. */
  readonly isVerified: boolean;
}

/** 'db1', '[db1]:2222' and addresses in their parts; the address as it is. */
function withoutPort(name: string): string {
  return /^\[([^\]]*)\]:\d+$/.exec(name)?.[1] ?? name;
}

/** Whether `name` is an IP address: those change hands, and say less than a name. */
function isAddress(name: string): boolean {
  const bare = withoutPort(name);
  return /^\d{1,3}(?:\.\d{1,3}){3}$/.test(bare) || /^[\da-f]*:[\da-f:.]*(?:%\w+)?$/i.test(bare);
}

/**
 * The names that `host` is called by in a sentence: the one that was asked for, if it is among the verified ones; else
 * all that are no addresses.
 */
function chosenNames({ names }: Host, asked: readonly string[]): readonly string[] {
  const wanted = asked.find((name) => names.includes(name));
  if (wanted !== undefined) return [wanted];
  const spoken = names.filter((name) => !isAddress(name));
  return spoken.length === 0 ? names.slice(0, 1) : spoken;
}

/** @param asked names that a command line claims, best first */
export function hostWords(host: Host, asked: readonly string[] = []): HostWords {
  const key = safe(host.fingerprint, MAX_FINGERPRINT);
  if (host.isRevoked === true) return { text: `a host with key ${key}, which is revoked`, isVerified: false };
  const [first, second, ...others] = chosenNames(host, asked);
  if (first === undefined) {
    const lack = host.hidden > 0 ? 'whose name known_hosts hides' : 'that known_hosts does not have';
    return { text: `a host with key ${key} ${lack}`, isVerified: false };
  }
  const text = shown(first, MAX_HOST_NAME);
  if (second === undefined) return { text, isVerified: true };
  const rest = others.length === 0 ? shown(second, MAX_HOST_NAME) : `${others.length + 1} other names`;
  return { text: `${text} or ${rest}`, isVerified: true };
}

/** 'db1 (verified)', or what is known instead. */
export function hostText(words: HostWords): string {
  return words.isVerified ? `${words.text} (verified)` : words.text;
}

/** 'a, b (verified)', or each with its own mark where they differ; '' for no host. */
export function hopsText(hops: readonly HostWords[]): string {
  const named = hops.length <= MAX_HOPS ? hops : [...hops.slice(0, MAX_HOPS - 1), ...hops.slice(-1)];
  const texts = named.every(({ isVerified }) => isVerified)
    ? named.map(({ text }, i) => (i === named.length - 1 ? `${text} (verified)` : text))
    : named.map(hostText);
  if (named.length < hops.length) texts.splice(-1, 0, `${hops.length - named.length} more hosts`);
  return texts.join(', ');
}

/** Whether a machine that calls itself `claimed` may be the verified host: one of its names, or the first part of one. */
export function answersTo({ names }: Host, claimed: string): boolean {
  const own = claimed.toLowerCase();
  if (own === '' || isAddress(own)) return false;
  return names.some((given) => {
    const name = withoutPort(given);
    if (isAddress(name)) return false;
    return name === own || own.startsWith(`${name}.`) || (!own.includes('.') && name.startsWith(`${own}.`));
  });
}
