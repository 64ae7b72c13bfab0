/** Messages to the engine, put together without our own encoder. */
import type { FreshKey } from '../../../src/testing/fixtures.ts';
import { raw, str, u32 } from '../wire/build.ts';

/** To add an Ed25519 key, with the bytes of its constraints. */
export function adding({ key }: FreshKey, comment: string, constraints: readonly number[] = []): Uint8Array {
  const { pk, sk } = key.fields as { pk: Uint8Array; sk: Uint8Array };
  return raw(25, str('ssh-ed25519'), str(pk), str(sk), str(comment), Uint8Array.from(constraints));
}

export function signing({ blob }: FreshKey, flags = 0): Uint8Array {
  return raw(13, str(blob), str('what is signed'), u32(flags));
}
