/** `latchkey try`: what would be decided on a request that nobody makes, and which rule or default decides. */
import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { basename } from 'node:path';
import { KeyError } from '../keys/error.ts';
import { fingerprint, type PublicKey, parsePublicKeyLine } from '../keys/publickey.ts';
import { type Decision, decide } from '../policy/decide.ts';
import type { Purpose } from '../policy/facts.ts';
import { FINGERPRINT_PREFIX, PURPOSES, type Rule } from '../policy/rules.ts';
import { defaultWebsafe } from '../policy/websafe.ts';
import { type Command, configurationFile, DONE_EXIT, FAILED_EXIT, Usage } from './command.ts';
import { loadConfiguration } from './configuration.ts';
import { systemErrorText } from './errors.ts';
import { Fatal, jsonText, type Output, shown } from './output.ts';
import { type Supposed, supposedFacts, supposedKey } from './supposed.ts';

const USAGE = `usage: latchkey try [--to [user@]host] [--via host]... [--namespace name] [--purpose purpose]
                    [--key fingerprint | comment | file.pub]... [--program path]... [--forwarded] [--confirm]
                    [--table latchkey | openssh] [--file config.toml] [--json]

What would happen to such a request, and which rule or default decides. Nothing is signed, and no agent is asked: the
rules are those of the configuration file. Hosts are supposed to be known, each by the one name given here.

  --to [user@]host   a login to that host
  --namespace name   a signature for a file or commit: "git" is what git says
  --purpose purpose  ${PURPOSES.join(', ')}
  --via host         forwarded by that host; again for each further one, nearest first
  --forwarded        may come from another machine, nobody knows which
  --key ...          the key's SHA256 fingerprint, its comment, or both; or its public file
  --program path     the program that asks; again for what started it
  --confirm          the key was added with -c
  --table openssh    the defaults of ssh-agent instead of latchkey agent's

Examples:
  latchkey try --to git@github.com --program /usr/bin/ssh --program /usr/bin/git
  latchkey try --to root@db1 --via bastion
  latchkey try --namespace git --forwarded`;

interface Given {
  readonly supposed: Supposed;
  /** As it was given: no key can be made that has it. */
  readonly fingerprint: string | undefined;
  readonly table: 'openssh' | 'latchkey';
  readonly file: string | undefined;
  readonly json: boolean;
}

function readKey(path: string): { readonly key: PublicKey; readonly comment: string } {
  try {
    return parsePublicKeyLine(readFileSync(path, 'utf8'));
  } catch (error) {
    const why = error instanceof KeyError ? error.message : systemErrorText(error);
    throw new Fatal(`${shown(path)}: ${why}`, FAILED_EXIT);
  }
}

const FLAGS = ['--forwarded', '--confirm', '--json'];
const SINGLE = ['--to', '--purpose', '--namespace', '--table', '--file'];
const SEVERAL = ['--key', '--via', '--program'];

/** Each option's values, in their order. */
function words(argv: readonly string[]): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, string[]>();
  for (let i = 0; i < argv.length; i++) {
    const name = argv[i] ?? '';
    const values = found.get(name) ?? [];
    if (FLAGS.includes(name)) values.push('');
    else if (!SINGLE.includes(name) && !SEVERAL.includes(name)) throw new Usage(`unknown word: ${shown(name)}`);
    else {
      const value = argv[++i];
      if (value === undefined || value === '') throw new Usage(`${name} wants a value`);
      if (SINGLE.includes(name) && values.length > 0) throw new Usage(`${name} is given twice`);
      values.push(value);
    }
    found.set(name, values);
  }
  return found;
}

function purposeGiven(text: string | undefined, to: string | undefined, namespace: string | undefined): Purpose {
  const purpose = PURPOSES.find((one) => one === text);
  if (text !== undefined && purpose === undefined) throw new Usage(`--purpose is one of ${PURPOSES.join(', ')}`);
  const found = purpose ?? (to !== undefined ? 'login' : namespace !== undefined ? 'sshsig' : undefined);
  if (found === undefined) throw new Usage('say what for: --to host, --namespace git, or --purpose ...');
  if ((found === 'login') !== (to !== undefined)) throw new Usage('--to is of a login, and a login is to a host');
  if (namespace !== undefined && found !== 'sshsig') throw new Usage('--namespace is of purpose sshsig');
  return found;
}

function parse(argv: readonly string[]): Given {
  const given = words(argv);
  const one = (name: string): string | undefined => given.get(name)?.[0];
  const to = one('--to');
  const table = one('--table') ?? 'latchkey';
  if (table !== 'openssh' && table !== 'latchkey') throw new Usage('--table is openssh or latchkey');
  let key: PublicKey | undefined;
  let print: string | undefined;
  let comment = '';
  for (const text of given.get('--key') ?? []) {
    if (text.startsWith(FINGERPRINT_PREFIX)) print = text;
    else if (text.endsWith('.pub')) ({ key, comment } = readKey(text));
    else comment = text;
  }
  const at = to?.lastIndexOf('@') ?? -1;
  const namespace = one('--namespace');
  const supposed: Supposed = {
    ...{ key, comment, confirm: given.has('--confirm'), forwarded: given.has('--forwarded') },
    purpose: purposeGiven(one('--purpose'), to, namespace),
    user: to !== undefined && at > 0 ? to.slice(0, at) : userInfo().username,
    host: to?.slice(at + 1),
    via: given.get('--via') ?? [],
    namespace: namespace ?? 'git',
    programs: given.get('--program') ?? [],
  };
  return { supposed, fingerprint: print, table, file: one('--file'), json: given.has('--json') };
}

/** The rules, with the fingerprint of the supposed key in place of the given one. */
function withFingerprint(rules: readonly Rule[], given: string | undefined, supposed: string): readonly Rule[] {
  if (given === undefined) return rules;
  const swap = (one: string): string => (one === given ? supposed : one === `!${given}` ? `!${supposed}` : one);
  return rules.map((rule) => (rule.key === undefined ? rule : { ...rule, key: rule.key.map(swap) }));
}

const WHAT: Readonly<Record<Purpose, string>> = {
  login: 'log in',
  'blind-login': 'log in, to a host that nothing proves',
  sshsig: 'sign a file or commit',
  sudo: 'sudo',
  certificate: 'sign a certificate',
  webauthn: 'log in to a web site',
  unidentified: 'sign unidentified bytes',
};

function requestText({ purpose, user, host, namespace, via, forwarded }: Supposed): string {
  const what = WHAT[purpose];
  const more =
    purpose === 'login'
      ? ` as ${shown(user)} on ${shown(host ?? '')}`
      : purpose === 'sshsig'
        ? ` (namespace ${shown(namespace)})`
        : '';
  const way = via.length > 0 ? `forwarded by ${via.map(shown).join(', then ')}` : forwarded ? 'forwarded' : 'from here';
  return `${what}${more}, ${way}`;
}

function groundText({ ground }: Decision, file: string): string {
  if (ground.kind === 'rule') return `rule "${shown(ground.text)}", ${shown(basename(file))}:${ground.line}`;
  return ground.kind === 'default' ? `default: ${ground.text}` : ground.text;
}

async function run(argv: readonly string[], env: NodeJS.ProcessEnv, output: Output): Promise<number> {
  const { supposed, fingerprint: print, table, file: named, json } = parse(argv);
  const file = named ?? configurationFile(env);
  const loaded = await loadConfiguration(file);
  if ('errors' in loaded) {
    for (const { text } of loaded.errors) output.error(text);
    return FAILED_EXIT;
  }
  if (loaded.missing && named !== undefined) throw new Fatal(`${shown(file)}: No such file or directory`, FAILED_EXIT);
  const facts = supposedFacts(supposed);
  const { lasts } = loaded.configuration.settings.ask;
  const own = fingerprint(supposed.key ?? supposedKey(`key ${supposed.comment}`));
  const rules = withFingerprint(loaded.configuration.rules, print, own);
  const decision = decide(facts, { fingerprintHash: 'sha256', websafe: defaultWebsafe, table, rules, lasts });
  const reason = decision.effect === 'deny' ? decision.reason : undefined;
  if (json) {
    const { purpose } = supposed;
    output.line(jsonText({ request: requestText(supposed), purpose, table, file, ...decision }, 2));
    return DONE_EXIT;
  }
  output.lines([
    requestText(supposed),
    `  ${decision.effect.padEnd(7)}${groundText(decision, file)}`,
    ...(reason === undefined || decision.ground.kind === 'rule' ? [] : [`         ${reason}`]),
    ...(decision.effect === 'ask' ? [`         a plain yes holds ${HOLDS[decision.lasts]}`] : []),
  ]);
  return DONE_EXIT;
}

const HOLDS: Readonly<Record<Rule['lasts'], string>> = {
  once: 'once',
  command: 'until that command ends',
  destination: 'for this destination, a while',
  path: 'for this way and destination, a while',
  always: 'for good',
};

export const tryCommand: Command = {
  name: 'try',
  summary: 'what would happen if: which rule or default decides on a request',
  usage: USAGE,
  run,
};
