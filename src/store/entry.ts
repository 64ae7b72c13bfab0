/** One key that the agent holds, with what its owner bound it to. Frozen: adding a key again makes a new entry. */
import type { Signer } from '../keys/signer.ts';
import type { DestinationConstraint } from '../wire/constraints.ts';

export interface Entry {
  readonly signer: Signer;
  readonly comment: string;
  readonly confirm: boolean;
  /** Milliseconds of the agent's clock; undefined: never. */
  readonly expiresAt: number | undefined;
  /** Canonical path of the library behind a token's key. */
  readonly provider: string | undefined;
  readonly destinations: readonly DestinationConstraint[] | undefined;
}
