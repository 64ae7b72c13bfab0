/** The rule that an owner who answers "always" agrees to: as narrow as the request, in the words of config.toml. */
import { fingerprint } from '../keys/publickey.ts';
import type { Facts } from './facts.ts';
import { purposeOf } from './purpose.ts';

/** What a pattern can't say literally, and what no honest name has. */
const isLiteral = (text: string): boolean =>
  text !== '' && text.length <= 256 && /^[\p{L}\p{N}@._:[\]+-]+$/u.test(text);

function list(values: readonly string[]): string {
  return `[${values.map((value) => JSON.stringify(value)).join(', ')}]`;
}

/** Undefined where the request is not told apart by verified names alone. */
export function ruleFor(facts: Facts): string | undefined {
  const { signed, hosts, guard, relay, forwarded, bindings } = facts;
  const purpose = purposeOf(facts);
  if (guard !== undefined || relay !== undefined || bindings.failed) return undefined;
  const key = fingerprint(facts.entry.signer.publicKey);
  const lines = ['[[rule]]', 'effect = "allow"', `key = ${list([key])}`, `purpose = ${list([purpose])}`];
  const via = hosts.filter(({ binding }) => binding.forwarded);
  if (forwarded) {
    const names = via[0]?.names.filter(isLiteral) ?? [];
    // A pattern for one of several hosts on the way would hold for longer ways too.
    if (via.length !== 1 || names.length === 0) return undefined;
    lines.push('origin = ["forwarded"]', `via = ${list(names)}`);
  } else lines.push('origin = ["local"]');
  if (purpose === 'login' && signed.kind === 'login') {
    const names = hosts.at(-1)?.names.filter(isLiteral) ?? [];
    if (names.length === 0 || !isLiteral(signed.user)) return undefined;
    lines.push(`host = ${list(names)}`, `user = ${list([signed.user])}`);
  } else if (purpose === 'sshsig' && signed.kind === 'sshsig') {
    if (!isLiteral(signed.namespace)) return undefined;
    lines.push(`namespace = ${list([signed.namespace])}`);
  } else return undefined;
  return `${lines.join('\n')}\n`;
}
