/** What can sign: a key in custody, and later a token's or another agent's. */
import type { PublicKey } from './publickey.ts';

export interface Signer {
  readonly publicKey: PublicKey;
  /**
   * An SSH signature blob over `data`, which stays the caller's. Quick keys answer at once; a key that takes
   * milliseconds, or a device, answers with a promise and holds up nobody.
   * @param flags of the sign request: they choose the hash of an RSA signature and mean nothing for others
   * @param signal aborted when nobody waits for the signature any more
   * @param purpose a line that tells a person what the signature is for, where a device asks for a touch
   * @throws KeyError
   */
  sign(data: Uint8Array, flags: number, signal?: AbortSignal, purpose?: string): Uint8Array | Promise<Uint8Array>;
  /** Lets go of what libcrypto made of the key; the key itself stays. Called before custody is sealed. */
  rest(): void;
  /** Wipes the key. Further calls of sign fail. */
  dispose(): void;
}
