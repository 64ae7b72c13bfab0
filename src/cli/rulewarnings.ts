/** What `latchkey check` says of rules that are well formed but hardly meant: found by comparing them, with no request. */
import { matchGlob } from '../keys/glob.ts';
import {
  FINGERPRINT_PREFIX,
  isNegated,
  matchHost,
  matchProgram,
  PLAIN_PURPOSES,
  PURPOSES,
  type Rule,
} from '../policy/rules.ts';
import { shown } from './output.ts';

export interface RuleWarning {
  readonly line: number;
  /** Safe to show; the rule is named, file and line are not. */
  readonly text: string;
}

const LISTS = ['key', 'host', 'user', 'via', 'program', 'namespace'] as const;
type ListName = (typeof LISTS)[number];

const isLiteral = (pattern: string): boolean => !/[*?]/.test(pattern);

/** Whether whatever matches `narrow` matches `wide` too; false where that takes more than a look. */
function patternCovers(name: ListName, wide: string, narrow: string): boolean {
  if (wide === narrow || wide === '*') return true;
  if (name === 'key' && (wide.startsWith(FINGERPRINT_PREFIX) || narrow.startsWith(FINGERPRINT_PREFIX))) return false;
  if (!isLiteral(narrow)) return false;
  if (name === 'host' || name === 'via') return matchHost(narrow, wide, false);
  if (name !== 'program') return matchGlob(narrow, wide);
  return (narrow.includes('/') || !wide.includes('/')) && matchProgram(narrow, wide, false);
}

function listCovers(name: ListName, earlier: Rule, later: Rule): boolean {
  const wide = earlier[name];
  const narrow = later[name];
  if (wide === undefined) return true;
  if (narrow === undefined) return false;
  // Where a request has several names at once, or none that is known, rules that allow match less.
  const hasDoubts = name !== 'key';
  if (hasDoubts && earlier.effect === 'allow' && later.effect !== 'allow') return false;
  if (wide.some(isNegated) || narrow.some(isNegated))
    return (
      earlier.effect === later.effect && wide.length === narrow.length && wide.every((one, i) => one === narrow[i])
    );
  return narrow.every((pattern) => wide.some((one) => patternCovers(name, one, pattern)));
}

function isLocal({ origin }: Rule): boolean {
  return origin?.every((one) => one === 'local') ?? false;
}

/** What a rule is for, where requests may come from afar. */
function purposesOf(rule: Rule): Rule['purpose'] & object {
  if (rule.purpose !== undefined) return rule.purpose;
  return rule.effect === 'deny' || isLocal(rule) ? PURPOSES : PLAIN_PURPOSES;
}

function purposeCovers(earlier: Rule, later: Rule): boolean {
  // Requests of this machine are the other half of a rule without purposes.
  const isOpen = later.purpose === undefined && later.effect !== 'deny' && !isLocal(later);
  if (isOpen) return earlier.purpose === undefined;
  const covered = purposesOf(earlier);
  return purposesOf(later).every((purpose) => covered.includes(purpose));
}

function originCovers({ origin: wide }: Rule, { origin: narrow }: Rule): boolean {
  if (wide === undefined) return true;
  return narrow?.every((one) => wide.includes(one) || (one === 'guard' && wide.includes('forwarded'))) ?? false;
}

/** Whether `earlier` certainly matches all that `later` does. */
export function covers(earlier: Rule, later: Rule): boolean {
  return (
    originCovers(earlier, later) &&
    purposeCovers(earlier, later) &&
    LISTS.every((name) => listCovers(name, earlier, later))
  );
}

/** Why no request can match `rule` at all. */
function contradiction(rule: Rule): string | undefined {
  const { host, user, via, namespace, purpose, program, origin, effect } = rule;
  const isFor = (...some: readonly string[]): boolean => purpose?.some((one) => some.includes(one)) ?? true;
  if (via !== undefined && isLocal(rule)) return 'nothing that comes from here is forwarded by a host (via)';
  if (effect === 'allow' && program !== undefined && origin?.includes('local') === false)
    return 'from afar no program of this machine asks, so that none is allowed anything there';
  if (namespace !== undefined && (host !== undefined || user !== undefined))
    return `${host === undefined ? 'user' : 'host'} is of logins, and namespace of signatures for files`;
  if (namespace !== undefined && !isFor('sshsig')) return 'namespace is of purpose "sshsig"';
  if (user !== undefined && !isFor('login', 'blind-login')) return 'user is of purpose "login"';
  if (host === undefined || isFor('login', 'blind-login')) return undefined;
  return 'host is of purpose "login"; a host that asks is named by via';
}

function doubtsAboutAllowing(rule: Rule): string[] {
  const { key, program, purpose = [] } = rule;
  if (rule.effect !== 'allow') return [];
  const doubts: string[] = [];
  const isOpen = !isLocal(rule);
  const positive = (list: readonly string[] | undefined): readonly string[] =>
    list?.filter((one) => !isNegated(one)) ?? [];
  if (isOpen && LISTS.every((name) => rule[name] === undefined))
    doubts.push('allows without a question, whichever key, host and program: nothing narrows it');
  if (positive(key).some((one) => !one.startsWith(FINGERPRINT_PREFIX)))
    doubts.push('goes by the comment of a key, which whoever adds one chooses: a fingerprint (ssh-add -l) is surer');
  if (positive(program).some((one) => !one.includes('/')))
    doubts.push('goes by the name of a program, which any file can have: a whole path is surer');
  const blind = purpose.filter((one) => !PLAIN_PURPOSES.includes(one));
  if (isOpen && blind.length > 0)
    doubts.push(`lets other machines have signed what nobody can check there: ${blind.join(', ')}`);
  return doubts;
}

/** In the order of the rules. */
export function ruleWarnings(rules: readonly Rule[]): readonly RuleWarning[] {
  const label = (rule: Rule): string => {
    const number = `rule ${rules.indexOf(rule) + 1}`;
    return rule.name === number ? number : `${number}, ${shown(rule.name)},`;
  };
  return rules.flatMap((rule, i) => {
    const before = rules.slice(0, i);
    const texts: string[] = [];
    const why = contradiction(rule);
    const cover = before.find((earlier) => covers(earlier, rule));
    if (why !== undefined) texts.push(`never matches: ${why}`);
    else if (cover !== undefined)
      texts.push(`never decides: the rule on line ${cover.line} matches all that it does, and comes first`);
    const namesake = before.find(({ name }) => name === rule.name);
    if (namesake !== undefined) texts.push(`has the name of the rule on line ${namesake.line}`);
    texts.push(...doubtsAboutAllowing(rule));
    return texts.map((text) => ({ line: rule.line, text: `${label(rule)} ${text}` }));
  });
}
