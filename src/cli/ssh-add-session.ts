/** What each action of ssh-add works with: one connection, the options, the words, and how to ask a person. */
import type { AgentClient } from '../client/client.ts';
import { AgentError } from '../client/error.ts';
import type { Constraints, DestinationConstraint } from '../wire/constraints.ts';
import { errorDetail, errorText } from './errors.ts';
import { type Output, shown } from './output.ts';
import type { PublicKeyProblem } from './publicfiles.ts';
import type { Options } from './ssh-add-options.ts';
import { fmtTimeframe } from './times.ts';

const REFUSED = 'The agent does not say why. While it is locked it refuses everything; ssh-add -X unlocks it.';

/** Enough for an action that only talks to the agent. */
export interface Asked {
  readonly agent: AgentClient;
  readonly options: Options;
  readonly out: Output;
}

export interface Session extends Asked {
  readonly destinations: readonly DestinationConstraint[];
  /** The answer, for the caller to wipe; empty where there is none. */
  readonly ask: (prompt: string) => Promise<Uint8Array>;
  /** The environment of programs that we start. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** The constraints that the command line asks for, with `lifetime` in seconds; 0: for ever. */
export function constraintsOf({ options, destinations }: Session, lifetime: number = options.lifetime): Constraints {
  return {
    ...(lifetime > 0 ? { lifetime } : {}),
    ...(options.confirm ? { confirm: true as const } : {}),
    ...(destinations.length > 0 ? { destinations } : {}),
  };
}

/** The lines after "added": what the key is bound to. */
export function sayBounds({ options, out }: Session, lifetime: number): void {
  if (lifetime > 0) out.error(`Lifetime set to ${fmtTimeframe(lifetime)}`);
  if (options.confirm) out.error('The user must confirm each use of the key');
}

/** A hint with what our own error says beyond OpenSSH's text, or where there is no more to know. */
export function hintAt({ out }: Asked, error: unknown): void {
  const refused = error instanceof AgentError && error.code === 'refused';
  const detail = refused ? REFUSED : errorDetail(error);
  if (detail !== undefined) out.hint(shown(detail));
}

/** Hints about files that are there but hold no public key. */
export function hintAtProblems({ out }: Session, problems: readonly PublicKeyProblem[]): void {
  for (const { path, error } of problems) out.hint(`${shown(path)}: ${shown(errorDetail(error) ?? errorText(error))}`);
}
