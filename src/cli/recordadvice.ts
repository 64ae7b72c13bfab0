/**
 * What the owner can change so that the next request like a recorded one ends otherwise: in words, and where a rule does
 * it, as lines for config.toml. Only verified facts come into a rule, and only names that a pattern can say literally.
 */
import type { ChainedRecord } from '../backends/recordline.ts';
import { shown } from './output.ts';
import { words } from './recordwords.ts';

export interface Advice {
  readonly words: readonly string[];
  /** Lines of TOML. */
  readonly rule?: readonly string[];
}

/** What has no meaning of its own in a pattern or in TOML, and is what honest names are made of. */
const isLiteral = (text: unknown): text is string =>
  typeof text === 'string' && text.length <= 256 && /^[\p{L}\p{N}@._:[\]/=+-]+$/u.test(text);

function list(values: readonly string[]): string {
  return `[${values.map((value) => JSON.stringify(value)).join(', ')}]`;
}

/** The narrowest rule that fits the request; undefined where verified names do not tell it apart from others. */
function ruleLines(record: ChainedRecord, effect: 'allow' | 'deny'): readonly string[] | undefined {
  const { key, purpose, user, namespace, hosts, forwarded } = record;
  if (!isLiteral(key?.fingerprint) || !isLiteral(purpose)) return undefined;
  const way = Array.isArray(hosts) ? hosts : [];
  const namesOf = (host: (typeof way)[number] | undefined): string[] =>
    Array.isArray(host?.names) ? host.names.filter(isLiteral) : [];
  const via = way.filter(({ forwards }) => forwards === true);
  const lines = [
    '[[rule]]',
    `effect = "${effect}"`,
    `key = ${list([key.fingerprint])}`,
    `purpose = ${list([purpose])}`,
  ];
  if (forwarded === true) {
    const names = namesOf(via[0]);
    if (via.length !== 1 || names.length === 0) return undefined;
    lines.push('origin = ["forwarded"]', `via = ${list(names)}`);
  } else lines.push('origin = ["local"]');
  if (purpose === 'login') {
    const names = namesOf(way.at(-1));
    if (names.length === 0 || !isLiteral(user)) return undefined;
    return [...lines, `host = ${list(names)}`, `user = ${list([user])}`];
  }
  if (purpose === 'sshsig') return isLiteral(namespace) ? [...lines, `namespace = ${list([namespace])}`] : undefined;
  // Of sudo only the host is verified, and what it would run is the matter.
  return undefined;
}

const UNTOLD = 'No rule can allow just this: nothing verified tells it apart from other requests.';

function ofSignature(record: ChainedRecord, file: string): Advice | undefined {
  const { ground, outcome, answer } = record;
  const place = shown(file);
  switch (ground?.kind) {
    case 'destinations':
      return outcome === 'denied'
        ? {
            words: [
              'The key was added with destinations (ssh-add -h), which no rule lifts. To allow this, add it with this one.',
            ],
          }
        : undefined;
    case 'websafe':
      return { words: ['No rule lifts this. See -O no-restrict-websafe of latchkey-agent(1).'] };
    case 'confirm':
      return { words: ['The key was added with ssh-add -c: it asks each time. To be asked less, add it without.'] };
    case 'guard':
      return { words: ['The guard decides what passes its socket: latchkey guard --help'] };
    case 'rule':
      return {
        words: [`To have it otherwise, change the rule ${words(ground.text)} in ${place}, and see: latchkey check`],
      };
    default:
      break;
  }
  const purpose = words(record.purpose);
  if (
    outcome === 'denied' &&
    (purpose === 'blind-login' || purpose === 'unidentified' || purpose === 'certificate' || purpose === 'webauthn')
  )
    return { words: ['From other machines this is refused, whoever asks. On this machine it is not.'] };
  if (outcome === 'denied' || answer !== undefined) {
    const rule = ruleLines(record, 'allow');
    if (rule === undefined) return { words: [UNTOLD] };
    return { words: [`To allow this without a question, add to ${place}:`], rule };
  }
  if (outcome !== 'allowed') return undefined;
  const rule = ruleLines(record, 'deny');
  return rule === undefined ? undefined : { words: [`To refuse this from now on, add to ${place}:`], rule };
}

/** @param file of the configuration */
export function advice(record: ChainedRecord, file: string): Advice | undefined {
  if (record.kind === 'sign') return record.key === undefined ? undefined : ofSignature(record, file);
  if (record.outcome === 'denied' && record.forwarded === true)
    return { words: ['Other machines can use keys as you allow them to, and change nothing: no rule lifts that.'] };
  return undefined;
}
