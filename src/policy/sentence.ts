/**
 * One sentence that says what a signature is for: the same in prompts, notifications and records. Verified and claimed
 * facts are told apart; names of others are made safe to show (names.ts). The lines below it have room for more.
 */
import type { FileSignature, Login, Sudo, UnsignedCertificate } from '../wire/signeddata.ts';
import type { WebLogin } from '../wire/webclientdata.ts';
import { gitCommand } from './arguments.ts';
import { certificateWords } from './certificatewords.ts';
import { commandOf } from './command.ts';
import type { Facts, Host, PeerProcess } from './facts.ts';
import { hostCandidates } from './hostcandidates.ts';
import { answersTo, type HostWords, hopsText, hostText, hostWords, NOBODY_VERIFIED } from './hostwords.ts';
import { claimedLines, verifiedLines } from './lines.ts';
import { shown } from './names.ts';
import { programName } from './programs.ts';
import { purposeOf } from './purpose.ts';

export { type Command, commandOf } from './command.ts';

/** Longest sentence, in characters: its parts have bounds of their own that keep it below. */
export const MAX_SENTENCE = 1024;
const MAX_USER = 48;
const MAX_NAMESPACE = 48;
const MAX_ORIGIN = 96;
const MAX_GUARD_ID = 16;
const MAX_WORD = 32;
/** Characters of the words of a command for sudo, together. */
const MAX_SUDO_COMMAND = 120;

export interface Description {
  /** 'log in as git on github.com (verified), for git push in ~/src/x' */
  readonly sentence: string;
  /** Lines that the kernel or a signature vouches for: 'host key SHA256:...', 'program /usr/bin/ssh, pid 4711'. */
  readonly verified: readonly string[];
  /** Lines that somebody merely says: 'command line: git push'. */
  readonly claimed: readonly string[];
}

export interface Words {
  /** The owner's home, shown as ~. */
  readonly home: string | undefined;
}

function loginText(login: Login, facts: Facts, asked: readonly string[]): string {
  const last = facts.hosts.at(-1);
  const isProven = purposeOf(facts) === 'login' && last !== undefined;
  const where = isProven ? hostText(hostWords(last, facts.hosts.length === 1 ? asked : [])) : NOBODY_VERIFIED;
  return `log in as ${shown(login.user, MAX_USER)} on ${where}`;
}

/** Git signs commits, tags and pushes alike; which one only its command line tells. */
function gitText(local: readonly PeerProcess[]): string {
  const git = local.find((process) => programName(process) === 'git');
  if (git === undefined) return 'a git commit or tag';
  const word = gitCommand(git.claimedArguments);
  return word === 'tag' || word === 'push' ? `a git ${word}` : 'a git commit';
}

/** @param local the processes that it is for, where these are known */
function fileText({ namespace }: FileSignature, local: readonly PeerProcess[]): string {
  const shownNamespace = `(namespace ${shown(namespace, MAX_NAMESPACE)})`;
  switch (namespace) {
    case 'git':
      return `sign ${gitText(local)} ${shownNamespace}`;
    case 'file':
      return `sign a file ${shownNamespace}`;
    case 'email':
      return `sign an e-mail ${shownNamespace}`;
    default:
      return `sign data ${shownNamespace}`;
  }
}

/** 'sudo apt upgrade': the service, and what it was called with. */
function sudoCommand({ service, argv }: Sudo): string {
  const [program = '', ...rest] = argv;
  const isItself = program.slice(program.lastIndexOf('/') + 1) === service;
  const words = isItself ? rest : argv.length === 0 ? [] : ['for', ...argv];
  let text = shown(service, MAX_WORD);
  for (const word of words) {
    const next = shown(word, MAX_WORD);
    if (text.length + next.length > MAX_SUDO_COMMAND) return `${text} …`;
    text += ` ${next}`;
  }
  return argv.length === 0 ? `${text}, for a command that it did not name` : text;
}

/** The host that asks for sudo, if its claim is borne out by the last host that the connection comes from. */
function sudoHost({ hostname }: Sudo, via: readonly Host[]): Host | undefined {
  const last = via.at(-1);
  return last !== undefined && answersTo(last, hostname) ? last : undefined;
}

function sudoText(sudo: Sudo, host: Host | undefined): string {
  const user = sudo.user === 'root' || sudo.user === sudo.ruser ? '' : ` as ${shown(sudo.user, MAX_USER)}`;
  const where =
    host === undefined
      ? `${shown(sudo.hostname, MAX_USER)} (host and command claimed)`
      : `${hostWords(host, [sudo.hostname.toLowerCase()]).text} (host verified, command claimed)`;
  return `${sudoCommand(sudo)}${user} on ${where}`;
}

function webText({ type, origin }: WebLogin): string {
  const site = `${shown(origin, MAX_ORIGIN)} (claimed)`;
  if (type === 'payment.get') return `confirm a payment on the web site ${site}`;
  const isLogin = type === 'webauthn.get' || type === 'navigator.id.getAssertion';
  return isLogin ? `log in to the web site ${site}` : `register with the web site ${site}`;
}

function certificateText(certificate: UnsignedCertificate, nowSeconds: number): string {
  const kind = certificate.certificateKind === 'host' ? 'SSH host certificate' : 'SSH certificate';
  return `sign an ${kind}: ${certificateWords(certificate, nowSeconds)}`;
}

function signedText(facts: Facts, asked: readonly string[], local: readonly PeerProcess[], sudoOn?: Host): string {
  const { signed, nowSeconds } = facts;
  switch (signed.kind) {
    case 'login':
      return loginText(signed, facts, asked);
    case 'sshsig':
      return fileText(signed, local);
    case 'sudo':
      return sudoText(signed, sudoOn);
    case 'certificate':
      return certificateText(signed, nowSeconds);
    case 'webauthn':
      return webText(signed);
    case 'unidentified':
      return 'unidentified bytes';
    default:
      return signed satisfies never;
  }
}

/** 'via a, b (verified), guard g1: '. What is not verified comes after the hosts, whose mark ends their list. */
function wayText({ guard, relay, bindings }: Facts, hops: readonly HostWords[]): string {
  const way = [
    ...(hops.length === 0 ? [] : [hopsText(hops)]),
    ...(guard === undefined ? [] : [`guard ${shown(guard.id, MAX_GUARD_ID)}`]),
    ...(relay === undefined ? [] : ['a relay']),
    ...(bindings.failed ? ['a host that failed to prove itself'] : []),
  ];
  return way.length === 0 ? '' : `via ${way.join(', ')}: `;
}

/** Whether what is signed is for a program here, and not for one on another machine behind it. */
function isForHere({ hosts, relay, bindings }: Facts): boolean {
  return relay === undefined && !bindings.failed && hosts.every(({ binding }) => !binding.forwarded);
}

export function describe(facts: Facts, words: Words): Description {
  const processes = facts.peer?.processes() ?? [];
  const asked = hostCandidates(processes);
  const command = commandOf(processes, words);
  const via = facts.hosts.filter(({ binding }) => binding.forwarded);
  const sudoOn = facts.signed.kind === 'sudo' ? sudoHost(facts.signed, via) : undefined;
  const hops = via
    .filter((host) => host !== sudoOn)
    .map((host) => hostWords(host, host === facts.hosts[0] ? asked : []));
  const isHere = isForHere(facts);
  const what = signedText(facts, asked, isHere ? processes : [], sudoOn);
  const purpose = isHere && command !== undefined ? `, for ${command.claimedText}` : '';
  return Object.freeze({
    sentence: `${wayText(facts, hops)}${what}${purpose}`,
    verified: verifiedLines(facts),
    claimed: claimedLines(facts, command),
  });
}
