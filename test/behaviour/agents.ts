/** Runs tests against each agent, and lists where OpenSSH's is known to differ: see differences.ts. */
import { join } from 'node:path';
import { afterEach, describe, expect } from 'vitest';
import { type AgentKind, type AgentUnderTest, type StartOptions, startAgent } from '../../src/testing/harness.ts';
import type { DifferenceName } from './differences.ts';

/** The checkout, or another build that `npm test` names. */
export const BUILD = process.env.LATCHKEY_BUILD ?? join(import.meta.dirname, '../..');
export const OUR_PROGRAM = join(BUILD, 'bin/ssh-agent');

/** The built program has the same engine and server as `socket`, so it runs with the tests that need a real process. */
export const KINDS: readonly AgentKind[] = ['openssh', 'memory', 'socket'];
export const OUR_KINDS: readonly AgentKind[] = ['memory', 'socket'];

/** Starts an agent that ends with its test. */
export type Start = (options?: StartOptions) => Promise<AgentUnderTest>;

/** `tests` once for each kind of agent. */
export function onEachAgent(tests: (start: Start) => void, kinds: readonly AgentKind[] = KINDS): void {
  describe.each(kinds)('%s', (kind) => {
    const running: AgentUnderTest[] = [];
    afterEach(async () => {
      for (const agent of running.splice(0)) await agent.stop();
    });
    tests(async (options) => {
      const agent = await startAgent(kind, options, OUR_PROGRAM);
      running.push(agent);
      return agent;
    });
  });
}

/** What is expected of `agent` where OpenSSH's differs; both values are asserted, each by its own agent. */
export function where<T>(agent: AgentUnderTest, _name: DifferenceName, values: { openssh: T; ours: T }): T {
  expect(values.openssh, 'a difference that is none').not.toEqual(values.ours);
  return agent.kind === 'openssh' ? values.openssh : values.ours;
}

/** The message number of an answer; undefined: the connection was closed. */
export const numberOf = (answer: Uint8Array | undefined): number | undefined => answer?.[0];

export const FAILURE = 5;
export const SUCCESS = 6;
export const IDENTITIES = 12;
export const SIGNATURE = 14;
export const EXTENSION_FAILURE = 28;
export const EXTENSION_RESPONSE = 29;
