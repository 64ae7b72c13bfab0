/** Cryptoki in memory, as far as the helper calls it: tokens in slots, with PINs that count, and Ed25519 keys. */
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import type { Cryptoki } from '../../../src/backends/pkcs11tokens.ts';
import { raw, str } from '../wire/build.ts';

type Result = ReturnType<Cryptoki['C_Sign']>;

const PUBLIC = 2;
const PRIVATE = 3;
const word = (value: number | bigint): Uint8Array => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return new Uint8Array(bytes);
};

export class FakeToken {
  readonly label: string;
  readonly pin: string;
  readonly privateKey: KeyObject;
  readonly point: Uint8Array;
  readonly blob: Uint8Array;
  tries = 3;
  loggedIn = false;
  /** What it was given, in order. */
  readonly pins: string[] = [];

  constructor(label: string, pin: string) {
    this.label = label;
    this.pin = pin;
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    this.privateKey = privateKey;
    this.point = new Uint8Array(Buffer.from(publicKey.export({ format: 'jwk' }).x as string, 'base64url'));
    this.blob = raw(str('ssh-ed25519'), str(this.point));
  }

  info(): Uint8Array {
    const bytes = Buffer.alloc(256, 0x20);
    bytes.write(this.label);
    let flags = 0x40c;
    if (this.tries < 3) flags |= 0x10000;
    if (this.tries === 1) flags |= 0x20000;
    if (this.tries === 0) flags |= 0x40000;
    bytes.writeBigUInt64LE(BigInt(flags), 96);
    return new Uint8Array(bytes);
  }
}

/** Slots may be filled and emptied at will. */
export class FakeCryptoki implements Cryptoki {
  readonly slots = new Map<bigint, FakeToken>();
  readonly #sessions = new Map<bigint, FakeToken>();
  #next = 1n;
  #found: bigint[] = [];
  #signing = false;
  /** Mechanisms that it refuses. */
  readonly refused = new Set<number>();
  /** CK_RV that the next signatures fail with. */
  readonly failures: number[] = [];
  opened = 0;

  constructor(...tokens: readonly FakeToken[]) {
    tokens.forEach((token, i) => void this.slots.set(BigInt(i), token));
  }

  /** Pulls a token out, with its sessions. */
  pull(slot: bigint): FakeToken {
    const token = this.slots.get(slot) as FakeToken;
    this.slots.delete(slot);
    token.loggedIn = false;
    for (const [session, of] of this.#sessions) if (of === token) this.#sessions.delete(session);
    return token;
  }

  C_Initialize(): number {
    return 0;
  }
  C_Finalize(): number {
    return 0;
  }
  C_GetSlotList(): { rv: number; slots: readonly bigint[] } {
    return { rv: 0, slots: [...this.slots.keys()] };
  }
  C_GetTokenInfo(slot: bigint): { rv: number; info: Uint8Array } {
    const token = this.slots.get(slot);
    return token ? { rv: 0, info: token.info() } : { rv: 0xe0, info: new Uint8Array(256) };
  }
  C_OpenSession(slot: bigint): { rv: number; session: bigint } {
    const token = this.slots.get(slot);
    if (token === undefined) return { rv: 0xe0, session: 0n };
    this.opened++;
    const session = this.#next++;
    this.#sessions.set(session, token);
    return { rv: 0, session };
  }
  C_CloseSession(session: bigint): number {
    const token = this.#sessions.get(session);
    this.#sessions.delete(session);
    if (token && ![...this.#sessions.values()].includes(token)) token.loggedIn = false;
    return token ? 0 : 0xb3;
  }
  C_GetSessionInfo(session: bigint): { rv: number; state: number } {
    const token = this.#sessions.get(session);
    return token ? { rv: 0, state: token.loggedIn ? 1 : 0 } : { rv: 0xb3, state: 0 };
  }
  C_Login(session: bigint, _user: number, pin: Uint8Array | undefined): number {
    const token = this.#sessions.get(session);
    if (token === undefined) return 0xb3;
    const given = Buffer.from(pin ?? []).toString();
    token.pins.push(given);
    if (token.tries === 0) return 0xa4;
    if (given !== token.pin) {
      token.tries--;
      return 0xa0;
    }
    token.tries = 3;
    token.loggedIn = true;
    return 0;
  }
  C_Logout(session: bigint): number {
    const token = this.#sessions.get(session);
    if (token) token.loggedIn = false;
    return 0;
  }
  C_FindObjectsInit(session: bigint, attributes: readonly { type: number; value: Uint8Array }[]): number {
    const token = this.#sessions.get(session);
    if (token === undefined) return 0xb3;
    const kind = attributes[0]?.value[0];
    this.#found = kind === PUBLIC || (kind === PRIVATE && token.loggedIn) ? [BigInt(kind)] : [];
    return 0;
  }
  C_FindObjects(): { rv: number; objects: readonly bigint[] } {
    return { rv: 0, objects: this.#found.splice(0) };
  }
  C_FindObjectsFinal(): number {
    return 0;
  }
  C_GetAttributeValue(session: bigint, object: bigint, type: number): Uint8Array | undefined {
    const token = this.#sessions.get(session);
    const values: Readonly<Record<number, Uint8Array | undefined>> = {
      3: raw(`key of ${token?.label}`),
      256: word(0x40),
      258: raw(1),
      384: raw(6, 3, 0x2b, 0x65, 0x70),
      385: object === BigInt(PUBLIC) && token ? raw(4, 32, token.point) : undefined,
    };
    return values[type];
  }
  C_SignInit(session: bigint, mechanism: number): number {
    const token = this.#sessions.get(session);
    if (token === undefined) return 0xb3;
    if (this.#signing) return 0x90;
    if (this.refused.has(mechanism)) return 0x70;
    this.#signing = true;
    return token.loggedIn ? 0 : 0x101;
  }
  C_Sign(session: bigint, data: Uint8Array): Result {
    this.#signing = false;
    const token = this.#sessions.get(session);
    const failure = this.failures.shift() ?? (token === undefined ? 0xb3 : 0);
    if (failure !== 0 || token === undefined) return { rv: failure, signature: new Uint8Array() };
    return { rv: 0, signature: new Uint8Array(sign(null, data, token.privateKey)) };
  }
}
