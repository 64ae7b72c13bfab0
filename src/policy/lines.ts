/** The lines below a sentence: what is verified, and what somebody merely says, each safe to show and bounded. */
import { FOREVER } from '../wire/certificatebody.ts';
import type { SignedData } from '../wire/signeddata.ts';
import type { Command } from './command.ts';
import type { Facts, Host, PeerProcess } from './facts.ts';
import { safe, shown } from './names.ts';
import { programName } from './programs.ts';

/** Longest line, in characters. */
export const MAX_LINE = 512;
/** Hosts have lines of their own, and there are at most this many lines of a kind. */
export const MAX_LINES = 24;
const MAX_PART = 160;
/** Names of a host, ancestors, words of a command that are told in one line. */
const MAX_PARTS = 16;

/** `parts` in one line, each safe, as far as there is room. */
function joined(head: string, parts: readonly string[], between: string): string {
  let line = head;
  for (const [i, part] of parts.slice(0, MAX_PARTS).entries()) {
    const next = `${i === 0 ? '' : between}${shown(part, MAX_PART)}`;
    if (line.length + next.length > MAX_LINE - 2) return `${line} …`;
    line += next;
  }
  return parts.length > MAX_PARTS ? `${line} …` : line;
}

function hostLine(host: Host): string {
  const { names, hidden, binding, fingerprint, isRevoked } = host;
  const role = binding.forwarded ? 'comes by host' : 'host logged in to';
  const key = safe(fingerprint, MAX_PART);
  if (isRevoked === true) return `${role}: key ${key}, revoked in known_hosts`;
  if (names.length > 0) return joined(`${role}: key ${key}, in known_hosts as `, names, ', ');
  const lack = hidden > 0 ? `in known_hosts under ${hidden} hidden names` : 'not in known_hosts';
  return `${role}: key ${key}, ${lack}`;
}

function processLines(processes: readonly PeerProcess[], uid: number): string[] {
  const [peer, ...ancestors] = processes;
  if (peer === undefined) return [`user id ${uid}`];
  const program = peer.program === undefined ? 'a program that is hidden' : `program ${shown(peer.program, MAX_PART)}`;
  const lines = [`${program}, pid ${peer.pid}, user id ${uid}`];
  const names = ancestors.filter(({ program: path }) => path !== undefined).map(programName);
  if (names.length > 0) lines.push(joined('started by ', names, ', '));
  if (processes.some(({ isInOurNamespace }) => isInOurNamespace === false)) lines.push('runs in a container');
  return lines;
}

/** What the kernel or a signature vouches for. */
export function verifiedLines({ hosts, peer, guard, relay, bindings }: Facts): readonly string[] {
  const lines = hosts.map(hostLine);
  if (bindings.failed) lines.push('a host failed to prove itself on this connection');
  if (guard !== undefined) lines.push(`came through guard ${shown(guard.id, MAX_PART)}`);
  // Our own words, which may hold round brackets, around the names of others, which may not.
  if (relay !== undefined)
    lines.push(`taken for a relay: ${safe(relay.replace(/\(/g, '[').replace(/\)/g, ']'), MAX_PART)}`);
  if (peer !== undefined) lines.push(...processLines(peer.processes(), peer.uid));
  return Object.freeze(lines.slice(0, MAX_LINES));
}

function timeOf(seconds: bigint): string {
  const date = new Date(Number(seconds) * 1000);
  return seconds === FOREVER || Number.isNaN(date.getTime()) ? 'no time' : date.toISOString();
}

function signedLines(signed: SignedData): string[] {
  switch (signed.kind) {
    case 'sudo':
      return [
        `calls itself ${shown(signed.hostname, MAX_PART)}`,
        `${shown(signed.ruser, MAX_PART)} asks, in ${shown(signed.cwd, MAX_PART)}, at ${timeOf(signed.time)}`,
        ...(signed.argv.length === 0 ? [] : [joined('command: ', signed.argv, ' ')]),
      ];
    case 'certificate':
      return [
        `valid from ${timeOf(signed.validAfter)} to ${signed.validBefore === FOREVER ? 'ever' : timeOf(signed.validBefore)}`,
        ...(signed.principals.length === 0 ? [] : [joined('principals: ', signed.principals, ', ')]),
        ...(signed.criticalOptions.length === 0 ? [] : [joined('only with ', signed.criticalOptions, ', ')]),
        ...(signed.extensions.length === 0 ? [] : [joined('may use ', signed.extensions, ', ')]),
      ];
    case 'webauthn':
      return [`web site ${shown(signed.origin, MAX_PART)}`];
    case 'login':
    case 'sshsig':
    case 'unidentified':
      return [];
    default:
      return signed satisfies never;
  }
}

/** What a command line, or the data themselves, say. */
export function claimedLines({ signed }: Facts, command: Command | undefined): readonly string[] {
  const lines = signedLines(signed);
  if (command !== undefined) lines.push(`command line: ${command.claimedText}`);
  return Object.freeze(lines.slice(0, MAX_LINES));
}
