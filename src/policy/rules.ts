/**
 * Rules of the owner's configuration: the first that matches decides (DESIGN section 5). A rule only ever speaks about
 * verified names; what a remote says of itself matches nothing. No rule lifts what the key itself is bound to.
 *
 * One host key may have several names, a request several hosts on its way and several programs behind it. Where that, or
 * something that is not known, leaves a doubt, an allow rule does not match, and a rule that denies or asks does.
 */
import { matchGlob } from '../keys/glob.ts';
import { fingerprint } from '../keys/publickey.ts';
import type { Circumstances, Facts, Host, Purpose } from './facts.ts';
import { purposeOf } from './purpose.ts';

/** How long an answer holds; see `Consent`. */
export const SCOPES = ['once', 'command', 'destination', 'path', 'always'] as const;
export type Scope = (typeof SCOPES)[number];
export type Effect = 'allow' | 'deny' | 'ask';
export type Origin = 'local' | 'forwarded' | 'guard';

/** In every list one pattern has to match, and none behind a `!`; a list of these alone means "all but". */
export interface Rule {
  /** As the owner called it, or 'rule 3'. */
  readonly name: string;
  /** Line of the configuration file, from 1. */
  readonly line: number;
  readonly effect: Effect;
  /** What a plain yes to this rule's question means. */
  readonly lasts: Scope;
  /** SHA256 fingerprints, whole, of the plain key; or glob patterns on comments. Of a list undefined: anything does. */
  readonly key?: readonly string[];
  /** On the verified names of the host that is logged in to. */
  readonly host?: readonly string[];
  /** On the user of a login. */
  readonly user?: readonly string[];
  /** On the verified names of the hosts that the connection is forwarded by: of all of them to allow, else of any. */
  readonly via?: readonly string[];
  /**
   * On the path of the peer's program or of one of its ancestors; a pattern without a slash is for the name alone. Allows
   * nothing from afar, where these are not who asks.
   */
  readonly program?: readonly string[];
  readonly namespace?: readonly string[];
  /** Undefined: to deny, any; otherwise any for this machine, and PLAIN_PURPOSES from afar. */
  readonly purpose?: readonly Purpose[];
  /** What comes through a guard is both 'guard' and 'forwarded'. */
  readonly origin?: readonly Origin[];
}

export const PURPOSES: readonly Purpose[] = [
  ...(['login', 'blind-login', 'sshsig', 'sudo'] as const),
  ...(['certificate', 'webauthn', 'unidentified'] as const),
];
/** What a rule that names no purpose can open to other machines: the others need to be written out. */
export const PLAIN_PURPOSES: readonly Purpose[] = ['login', 'sshsig', 'sudo'];
export const FINGERPRINT_PREFIX = 'SHA256:';

/** Longer users, namespaces and comments match `*` alone, and no rule that allows: they are somebody's attempt. */
export const MAX_MATCHED_CHARACTERS = 1024;

/** Whether a rule fits: 'maybe' where that hangs on what is not told yet. */
type Fit = 'yes' | 'no' | 'maybe';

/** What is asked for, as far as it is told. */
interface Wish {
  readonly purpose: Purpose;
  /** False: only the purpose is supposed, as while listing. */
  readonly told: boolean;
  readonly user: string | undefined;
  readonly namespace: string | undefined;
}

/** @param wide count what is near the pattern too, in doubt */
type Match = (value: string, pattern: string, wide: boolean) => boolean;

/** Whether `pattern` is one of those that take out what they match. */
export function isNegated(pattern: string): boolean {
  return pattern.startsWith('!');
}

/** The text of a pattern without its `!`. */
export function patternText(pattern: string): string {
  return isNegated(pattern) ? pattern.slice(1) : pattern;
}

/**
 * @param values what is known: one of them is meant, or all are true at once; none: nothing is known
 * @param complete false: there may be values that nobody could tell
 */
function admits(
  list: readonly string[],
  values: readonly string[],
  effect: Effect,
  match: Match,
  complete = true,
): boolean {
  const inDoubt = effect !== 'allow';
  const negated = list.filter(isNegated).map(patternText);
  if (values.some((value) => negated.some((pattern) => match(value, pattern, !inDoubt)))) return false;
  if (!inDoubt && (values.length === 0 || (!complete && negated.length > 0))) return false;
  if (negated.length === list.length) return true;
  // What is not known is still something, so that `*` denies it.
  const candidates = values.length === 0 ? [''] : values;
  return candidates.some((value) => list.some((pattern) => !isNegated(pattern) && match(value, pattern, inDoubt)));
}

const plain: Match = (value, pattern) => matchGlob(value, pattern);

/** Of A to Z alone, as known_hosts is read. */
function lower(name: string): string {
  return name.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

export const matchHost: Match = (value, pattern, wide) => {
  const name = lower(value);
  const wanted = lower(pattern);
  if (matchGlob(name, wanted)) return true;
  // On another port another server may listen, whom nobody allowed; but who denies a host means it with all its ports.
  const withPort = wide ? /^\[(.*)\]:[0-9]+$/.exec(name)?.[1] : undefined;
  return withPort !== undefined && matchGlob(withPort, wanted);
};

export const matchProgram: Match = (value, pattern, wide) => {
  const compared = (path: string): string => (pattern.includes('/') ? path : path.slice(path.lastIndexOf('/') + 1));
  if (matchGlob(compared(value), pattern)) return true;
  // So the system calls a program whose file is gone, be it by an upgrade or to escape a rule.
  const gone = ' (deleted)';
  return wide && value.endsWith(gone) && matchGlob(compared(value.slice(0, -gone.length)), pattern);
};

function matchesKey(list: readonly string[], entry: Facts['entry'], effect: Effect): boolean {
  const bounded = entry.comment.length <= MAX_MATCHED_CHARACTERS ? entry.comment : '';
  return admits(list, [bounded], effect, (comment, pattern) =>
    pattern.startsWith(FINGERPRINT_PREFIX)
      ? fingerprint(entry.signer.publicKey) === pattern
      : matchGlob(comment, pattern),
  );
}

function matchesOrigin(list: readonly Origin[], { guard, forwarded }: Circumstances): boolean {
  if (guard !== undefined && list.includes('guard')) return true;
  return list.includes(forwarded || guard !== undefined ? 'forwarded' : 'local');
}

function matchesPurpose({ purpose: list, effect }: Rule, purpose: Purpose, forwarded: boolean): boolean {
  if (list !== undefined) return list.includes(purpose);
  return effect === 'deny' || !forwarded || PLAIN_PURPOSES.includes(purpose);
}

function matchesNames(list: readonly string[], { names, hidden }: Host, effect: Effect): boolean {
  return admits(list, names, effect, matchHost, hidden === 0);
}

function matchesVia(list: readonly string[], circumstances: Circumstances, effect: Effect): boolean {
  const { hosts, bindings, relay, forwarded } = circumstances;
  if (!forwarded) return false;
  const way = hosts.filter(({ binding }) => binding.forwarded);
  const isWholeWay = way.length > 0 && !bindings.failed && relay === undefined;
  if (effect === 'allow') return isWholeWay && way.every((host) => matchesNames(list, host, effect));
  return way.some((host) => matchesNames(list, host, effect)) || (!isWholeWay && admits(list, [], effect, matchHost));
}

function matchesProgram(list: readonly string[], { peer, forwarded }: Circumstances, effect: Effect): boolean {
  // From afar these programs only carry: a git whose ssh forwards the agent asks for nothing of what comes back by it.
  if (forwarded && effect === 'allow') return false;
  const processes = peer?.processes() ?? [];
  const programs = processes.flatMap(({ program }) => (program === undefined ? [] : [program]));
  return admits(list, programs, effect, matchProgram, programs.length === processes.length);
}

/** The host that is logged in to, where a login on this connection could only be there. */
function destinationOf({ hosts }: Circumstances): Host | undefined {
  const last = hosts.at(-1);
  return last?.binding.forwarded === false ? last : undefined;
}

function fitsHost(list: readonly string[], circumstances: Circumstances, wish: Wish, effect: Effect): Fit {
  if (wish.purpose === 'blind-login') return admits(list, [], effect, matchHost) ? 'yes' : 'no';
  if (wish.purpose !== 'login') return 'no';
  const destination = destinationOf(circumstances);
  if (destination !== undefined) return matchesNames(list, destination, effect) ? 'yes' : 'no';
  return 'maybe';
}

function fitsText(list: readonly string[], text: string | undefined, applies: boolean, wish: Wish, to: Effect): Fit {
  if (!applies) return 'no';
  if (!wish.told) return 'maybe';
  const values = text === undefined || text.length > MAX_MATCHED_CHARACTERS ? [] : [text];
  return admits(list, values, to, plain) ? 'yes' : 'no';
}

function fitOf(rule: Rule, entry: Facts['entry'], circumstances: Circumstances, wish: Wish): Fit {
  const { effect, key, host, user, via, program, namespace, origin } = rule;
  if (!matchesPurpose(rule, wish.purpose, circumstances.forwarded)) return 'no';
  if (origin !== undefined && !matchesOrigin(origin, circumstances)) return 'no';
  if (key !== undefined && !matchesKey(key, entry, effect)) return 'no';
  if (via !== undefined && !matchesVia(via, circumstances, effect)) return 'no';
  const isLogin = wish.purpose === 'login' || wish.purpose === 'blind-login';
  const fits: readonly Fit[] = [
    host === undefined ? 'yes' : fitsHost(host, circumstances, wish, effect),
    user === undefined ? 'yes' : fitsText(user, wish.user, isLogin, wish, effect),
    namespace === undefined ? 'yes' : fitsText(namespace, wish.namespace, wish.purpose === 'sshsig', wish, effect),
  ];
  if (fits.includes('no')) return 'no';
  // Last, since the system is asked for it.
  if (program !== undefined && !matchesProgram(program, circumstances, effect)) return 'no';
  return fits.includes('maybe') ? 'maybe' : 'yes';
}

export function firstMatch(rules: readonly Rule[], facts: Facts): Rule | undefined {
  const { entry, signed } = facts;
  const wish: Wish = {
    purpose: purposeOf(facts),
    told: true,
    user: signed.kind === 'login' ? signed.user : undefined,
    namespace: signed.kind === 'sshsig' ? signed.namespace : undefined,
  };
  return rules.find((rule) => fitOf(rule, entry, facts, wish) === 'yes');
}

/** Whether the rules leave some use of this purpose. */
function leaves(
  rules: readonly Rule[],
  entry: Facts['entry'],
  circumstances: Circumstances,
  purpose: Purpose,
): boolean {
  const wish: Wish = { purpose, told: false, user: undefined, namespace: undefined };
  for (const rule of rules) {
    const found = fitOf(rule, entry, circumstances, wish);
    if (found !== 'no' && rule.effect !== 'deny') return true;
    if (found === 'yes') return false;
  }
  return true;
}

/** Whether a key may be of use over such a connection at all, by the rules alone: one that is not is not listed there. */
export function mayBeUsed(rules: readonly Rule[], key: Facts['entry'], circumstances: Circumstances): boolean {
  // Clients bind before they list, and what is bound to a login serves that login.
  const purposes: readonly Purpose[] = destinationOf(circumstances) === undefined ? PURPOSES : ['login'];
  return rules.length === 0 || purposes.some((purpose) => leaves(rules, key, circumstances, purpose));
}

/** Names that rules spell out, in lower case and each once: what hashed lines of known_hosts are worth trying with. */
export function namesInRules(rules: readonly Rule[]): readonly string[] {
  const patterns = rules.flatMap(({ host = [], via = [] }) => [...host, ...via]).map(patternText);
  return [...new Set(patterns.filter((pattern) => !/[*?]/.test(pattern)).map(lower))];
}
