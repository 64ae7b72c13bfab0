/** The same bindings and keys in OpenSSH's agent and in our policy: it must accept, show and sign exactly as ours permits. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hostKeysFor } from '../../../src/keys/knownhosts.ts';
import { bindRequest, noBindings } from '../../../src/policy/bindings.ts';
import { maySign, permitted } from '../../../src/policy/destination.ts';
import type { DestinationConstraint, Hop } from '../../../src/wire/constraints.ts';
import { classify } from '../../../src/wire/signeddata.ts';
import { fromPub, type Part, raw, str, u32 } from '../wire/build.ts';
import { bindTo, certify, type Host, loginData, makeHost, newSession } from './hosts.ts';

const folder = mkdtempSync(join(tmpdir(), 'latchkey-policy-'));
const socketPath = join(folder, 'agent');
const knownHosts = join(folder, 'known_hosts');
// OpenSSH's agent has the real time, so ours and the certificates have it here too.
const now = Math.floor(Date.now() / 1000);

const authority = makeHost('ca');
const authorityValidity = { validAfter: BigInt(now - 3600), validBefore: BigInt(now + 3600) };
const hosts: readonly Host[] = [
  makeHost('host_a'),
  makeHost('host_b'),
  makeHost('host_c'),
  certify(makeHost('host_d'), authority, authorityValidity),
  certify(makeHost('host_e'), authority, authorityValidity),
  certify(makeHost('host_d'), authority, { validAfter: 1n, validBefore: BigInt(now - 3600) }),
  certify(makeHost('host_d'), authority, { ...authorityValidity, kind: 1 }),
  certify(makeHost('host_d'), authority, { ...authorityValidity, criticalOption: 'force-command' }),
  certify(makeHost('host_a'), makeHost('other ca'), authorityValidity),
];

/** What each key is added with, as `ssh-add -h` has it; the last has nothing. */
const specifications: readonly (readonly string[])[] = [
  ['host_a'],
  ['host_d'],
  ['bob@host_a', 'al*@host_b'],
  ['host_a', 'host_a>host_b', 'host_b>host_c', 'host_c>host_d', 'host_d>host_e'],
  ['host_a', 'host_b', 'host_a>host_a', 'host_b>host_a', 'host_a>--BADUSER@host_c', 'host_b>alice@host_c'],
  ['host_d', 'host_e', 'host_d>host_d', 'host_d>host_a', 'host_e>host_d', 'host_a>host_d'],
  ['host_b', 'host_b>al?ce@host_e'],
  [],
];

interface Held {
  readonly blob: Uint8Array;
  readonly destinations?: readonly DestinationConstraint[];
}

let agent: ChildProcess;
const held: Held[] = [];

function addKeys(): void {
  const line = ({ name, plainBlob }: Host, marker = ''): string =>
    `${marker}${name} ssh-ed25519 ${Buffer.from(plainBlob).toString('base64')}\n`;
  const patterns = { ...authority, name: 'host_*' };
  const content = [...hosts.slice(0, 3).map((host) => line(host)), line(patterns, '@cert-authority ')].join('');
  writeFileSync(knownHosts, content);

  const hop = (text: string): Hop => {
    const at = text.lastIndexOf('@');
    const hostname = text.slice(at + 1);
    const keys = hostKeysFor(hostname, [{ path: knownHosts, content }]);
    return { user: at < 0 ? '' : text.slice(0, at), hostname, keys };
  };
  const nowhere: Hop = { user: '', hostname: '', keys: [] };
  for (const [i, specification] of specifications.entries()) {
    const file = join(folder, `key ${i}`);
    spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file]);
    const options = specification.flatMap((text) => ['-h', text]);
    const env = { ...process.env, SSH_AUTH_SOCK: socketPath };
    const { status, stderr } = spawnSync('ssh-add', ['-q', '-H', knownHosts, ...options, file], { env });
    if (status !== 0) throw new Error(String(stderr));
    const blob = fromPub(readFileSync(`${file}.pub`, 'utf8'));
    const destinations = specification.map((text): DestinationConstraint => {
      const [left, right] = text.split('>');
      return right === undefined ? { from: nowhere, to: hop(text) } : { from: hop(left ?? ''), to: hop(right) };
    });
    held.push(destinations.length === 0 ? { blob } : { blob, destinations });
  }
}

beforeAll(async () => {
  agent = spawn('ssh-agent', ['-D', '-a', socketPath], { stdio: 'ignore' });
  while (!existsSync(socketPath)) {
    if (agent.exitCode !== null) throw new Error('ssh-agent did not start');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  addKeys();
});
afterAll(() => {
  agent.kill();
  rmSync(folder, { recursive: true });
});

/** Sends all `messages` on one connection and collects the answers. */
async function ask(messages: readonly Uint8Array[]): Promise<Buffer[]> {
  const socket: Socket = connect(socketPath);
  socket.write(Buffer.concat(messages.map((message) => str(message))));
  const answers: Buffer[] = [];
  let left: Buffer = Buffer.alloc(0);
  for await (const chunk of socket) {
    left = Buffer.concat([left, chunk as Buffer]);
    while (left.length >= 4 && left.length >= 4 + left.readUInt32BE()) {
      const end = 4 + left.readUInt32BE();
      answers.push(left.subarray(4, end));
      left = left.subarray(end);
    }
    if (answers.length === messages.length) break;
  }
  socket.destroy();
  if (answers.length !== messages.length) throw new Error('ssh-agent hung up');
  return answers;
}

const message = (number: number, ...parts: readonly Part[]): Uint8Array => raw(number, ...parts);

interface Step {
  readonly host: number;
  readonly forwarded: boolean;
  /** 'again': the session of the step before; 'forged': a signature by another host. */
  readonly session: 'new' | 'again' | 'forged';
}

interface Walk {
  readonly steps: readonly Step[];
  readonly user: string;
  readonly login: 'proper' | 'without host key' | 'first session' | 'first host';
}

/** What OpenSSH's agent and ours say of one connection: bindings accepted, keys listed, keys that sign. */
async function both({ steps, user, login }: Walk) {
  const at = (i: number): Host => hosts[i] ?? makeHost('none');
  let session = newSession();
  const binds = steps.map((step) => {
    if (step.session !== 'again') session = newSession();
    const request = bindTo(at(step.host), step.forwarded, session);
    return step.session === 'forged' ? { ...request, signature: bindTo(at(8), false, session).signature } : request;
  });
  const bodies = binds.map(({ hostKey, sessionId, signature, isForwarding }) =>
    raw(str(hostKey), str(sessionId), str(signature), isForwarding ? 1 : 0),
  );
  const last = binds.at(-1) ?? bindTo(at(0), false);
  const first = binds[0] ?? last;
  const change = {
    proper: { user },
    'without host key': { user, hostKey: null },
    'first session': { user, sessionId: first.sessionId },
    'first host': { user, hostKey: first.hostKey },
  }[login];
  const data = held.map(({ blob }) => loginData(blob, last, change));

  const answers = await ask([
    ...bodies.map((body) => message(27, str('session-bind@openssh.com'), body)),
    message(11),
    ...held.map(({ blob }, i) => message(13, str(blob), str(data[i] ?? raw()), u32(0))),
  ]);
  const list = answers[bodies.length] ?? Buffer.alloc(0);
  const theirs = {
    accepted: answers.slice(0, bodies.length).map((answer) => answer[0] === 6),
    listed: held.map(({ blob }) => list.includes(Buffer.from(blob))),
    signed: answers.slice(bodies.length + 1).map((answer) => answer[0] === 14),
  };

  let bindings = noBindings;
  const accepted = bodies.map((body) => {
    const result = bindRequest(bindings, body);
    bindings = result.bindings;
    return result.accepted;
  });
  const ours = {
    accepted,
    listed: held.map(({ destinations }) => permitted(destinations, bindings, undefined, now).ok),
    signed: held.map((entry, i) => maySign(entry, bindings, classify(data[i] ?? raw()), now).ok),
  };
  // Until 9.6 OpenSSH took a connection for local when its only binding had failed, and showed all keys on it.
  const unbound = steps.length > 0 && !accepted.includes(true);
  if (unbound) {
    expect(ours.listed).toEqual(held.map(({ destinations }) => destinations === undefined));
    return { theirs: { ...theirs, listed: ours.listed }, ours };
  }
  return { theirs, ours };
}

describe('beside OpenSSH’s agent', () => {
  const proper = { user: 'alice', login: 'proper' } as const;

  it('shows and signs the same on every path of up to two hosts and a login', async () => {
    let signed = 0;
    let hidden = 0;
    const step = (host: number, forwarded: boolean): Step => ({ host, forwarded, session: 'new' });
    const reachable = [0, 1, 2, 3, 4];
    const all = hosts.map((_, host) => host);
    const paths: number[][] = [[], ...all.map((host) => [host])];
    for (const first of reachable) paths.push(...reachable.map((second) => [first, second]));
    for (const path of paths) {
      const forwarding = path.map((host) => step(host, true));
      const logins = [all, reachable, [3]][path.length] ?? [];
      const ends = logins.map((host) => step(host, false));
      for (const steps of [forwarding, ...ends.map((end) => [...forwarding, end])]) {
        const { theirs, ours } = await both({ steps, ...proper });
        expect(ours, JSON.stringify(steps)).toEqual(theirs);
        signed += ours.signed.slice(0, -1).filter(Boolean).length;
        hidden += ours.listed.filter((shown) => !shown).length;
      }
    }
    // Both answers came up often, the unconstrained key aside.
    expect(signed).toBeGreaterThan(10);
    expect(hidden).toBeGreaterThan(150);
  });

  it('shows and signs the same in the chain of hosts a to e', async () => {
    for (let length = 1; length <= 5; length++) {
      const steps = [0, 1, 2, 3, 4]
        .slice(0, length)
        .map((host, i): Step => ({ host, forwarded: i < length - 1, session: 'new' }));
      const { theirs, ours } = await both({ steps, ...proper });
      expect(ours).toEqual(theirs);
      expect(ours.signed[3]).toBe(true);
    }
  });

  it('accepts the same bindings, shows and signs the same on any connection', async () => {
    const anyStep = fc.record({
      host: fc.integer({ min: 0, max: hosts.length - 1 }),
      forwarded: fc.boolean(),
      session: fc.constantFrom('new', 'new', 'new', 'again', 'forged'),
    }) as fc.Arbitrary<Step>;
    const anyWalk = fc.record({
      steps: fc.array(anyStep, { maxLength: 4 }),
      user: fc.constantFrom('alice', 'bob', '', '*'),
      login: fc.constantFrom('proper', 'proper', 'without host key', 'first session', 'first host'),
    }) as fc.Arbitrary<Walk>;
    await fc.assert(
      fc.asyncProperty(anyWalk, async (walk) => {
        const { theirs, ours } = await both(walk);
        expect(ours).toEqual(theirs);
      }),
      { numRuns: 60 },
    );
  });

  it('accepts 16 sessions and no more', async () => {
    const steps = Array.from({ length: 17 }, (): Step => ({ host: 0, forwarded: true, session: 'new' }));
    const { theirs, ours } = await both({ steps, ...proper });
    expect(ours).toEqual(theirs);
    expect(ours.accepted.lastIndexOf(true)).toBe(15);
  });
});
