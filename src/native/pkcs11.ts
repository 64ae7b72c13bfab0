/**
 * Thin bindings to the functions of a PKCS#11 provider that signing needs (Cryptoki 2.40; 3.x has the same list first),
 * each under its C name. Only for the helper process: a provider is foreign code. LP64 alone: CK_ULONG is 64 bits and
 * structures are padded, as on every Unix; Windows has both otherwise. Also what that process needs of the C library.
 */
import koffi from 'koffi';
import { bind, isLinux, mapPlain, type Pages, wipeCallStack } from './libc.ts';

/** CK_FUNCTION_LIST: CK_VERSION, padded to a pointer's size, then the functions in the standard's order. */
const FUNCTIONS =
  `Initialize Finalize GetInfo GetFunctionList GetSlotList GetSlotInfo GetTokenInfo GetMechanismList GetMechanismInfo
  InitToken InitPIN SetPIN OpenSession CloseSession CloseAllSessions GetSessionInfo GetOperationState SetOperationState
  Login Logout CreateObject CopyObject DestroyObject GetObjectSize GetAttributeValue SetAttributeValue FindObjectsInit
  FindObjects FindObjectsFinal EncryptInit Encrypt EncryptUpdate EncryptFinal DecryptInit Decrypt DecryptUpdate
  DecryptFinal DigestInit Digest DigestUpdate DigestKey DigestFinal SignInit Sign`.split(/\s+/);
const POINTER_BYTES = 8;
const CK_TOKEN_INFO_BYTES = 256; // 208 in 2.40
const CK_SESSION_INFO_BYTES = 32;
const CKF_SERIAL_SESSION = 4;

/** Room for the arguments of one call: the largest message that is signed, and a signature. */
const ARENA_BYTES = 512 * 1024;

/** A CK_SLOT_ID, CK_SESSION_HANDLE or CK_OBJECT_HANDLE. */
export type Handle = bigint;

export interface SearchAttribute {
  readonly type: number;
  readonly value: Uint8Array;
}

type Call = (...values: readonly (number | bigint | null)[]) => number;

/** Memory at a fixed address, filled anew for each call: typed arrays may move, or be copied by the binding. */
class Arena {
  readonly #pages: Pages = mapPlain(ARENA_BYTES);
  readonly #words = new DataView(this.#pages.bytes.buffer, this.#pages.bytes.byteOffset, ARENA_BYTES);
  #used = 0;

  /** Begins a call: what the last one left is cleared, PINs among it. */
  reset(): void {
    this.#pages.bytes.fill(0, 0, this.#used);
    this.#used = 0;
  }

  take(length: number): number {
    const at = this.#used;
    if (length > ARENA_BYTES - at) throw new RangeError('PKCS#11: more than one call may carry');
    this.#used = Math.min(ARENA_BYTES, at + Math.ceil(length / POINTER_BYTES) * POINTER_BYTES);
    return this.#pages.address + at;
  }

  put(bytes: Uint8Array): number {
    const address = this.take(bytes.length);
    this.bytes(address, bytes.length).set(bytes);
    return address;
  }

  words(...values: readonly (number | bigint)[]): number {
    const address = this.take(values.length * POINTER_BYTES);
    values.forEach((value, i) => {
      this.#words.setBigUint64(address - this.#pages.address + i * POINTER_BYTES, BigInt(value), true);
    });
    return address;
  }

  word(address: number, index = 0): bigint {
    return this.#words.getBigUint64(address - this.#pages.address + index * POINTER_BYTES, true);
  }

  bytes(address: number, length: number): Uint8Array {
    const at = address - this.#pages.address;
    return this.#pages.bytes.subarray(at, at + length);
  }
}

const prototypes = new Map<string, ReturnType<typeof koffi.proto>>();

/** koffi knows a prototype by its name, once in a process. */
function prototypeOf(definition: string): ReturnType<typeof koffi.proto> {
  const prototype = prototypes.get(definition) ?? koffi.proto(definition);
  prototypes.set(definition, prototype);
  return prototype;
}

/** What a provider that keeps to the standard can't do. The text names the call. */
export class BadProviderError extends Error {}

/** A loaded provider. Each function returns CK_RV, or it with what the call gave. @throws BadProviderError */
export class CryptokiLibrary {
  readonly #arena = new Arena();
  readonly #calls = new Map<string, Call>();
  readonly #functions: BigUint64Array;

  /**
   * Loads `path`: its constructors run. Its symbols are looked up in its own libraries first: Node's executable exports
   * a libcrypto of its own, and a provider must not get halves of both.
   * @throws Error with the loader's words, BadProviderError
   */
  constructor(path: string) {
    const library = koffi.load(path, { deep: true });
    const list = this.#arena.words(0);
    const rv = Number(library.func('ulong C_GetFunctionList(void *list)')(list));
    const address = this.#arena.word(list);
    if (rv !== 0 || address === 0n) throw new BadProviderError(`C_GetFunctionList gave no list (0x${rv.toString(16)})`);
    this.#functions = new BigUint64Array(koffi.view(address, (1 + FUNCTIONS.length) * POINTER_BYTES));
    const major = Number((this.#functions[0] as bigint) & 0xffn);
    if (major !== 2 && major !== 3) throw new BadProviderError(`Cryptoki version ${major} is not served`);
  }

  #call(name: string, parameters: string): Call {
    let call = this.#calls.get(name);
    if (call === undefined) {
      const pointer = this.#functions[1 + FUNCTIONS.indexOf(name)] as bigint;
      if (pointer === 0n) throw new BadProviderError(`the provider has no C_${name}`);
      const prototype = prototypeOf(`ulong C_${name}(${parameters})`);
      call = (...values) => Number(koffi.call(pointer, prototype, ...values));
      this.#calls.set(name, call);
    }
    return call;
  }

  /** Handles from `address`. */
  #handles(name: string, address: number, count: bigint, max: number): Handle[] {
    if (count > BigInt(max)) throw new BadProviderError(`C_${name} gave more than was asked for`);
    return Array.from({ length: Number(count) }, (_, i) => this.#arena.word(address, i));
  }

  C_Initialize(): number {
    return this.#call('Initialize', 'void *arguments')(null);
  }

  C_Finalize(): number {
    this.#arena.reset();
    return this.#call('Finalize', 'void *reserved')(null);
  }

  /** Slots with a token in them, `max` of them at most. */
  C_GetSlotList(max: number): { rv: number; slots: readonly Handle[] } {
    const arena = this.#arena;
    arena.reset();
    const call = this.#call('GetSlotList', 'uint8_t present, void *list, void *count');
    // The call without a list is the one that makes providers look for tokens that came or went.
    const count = arena.words(0);
    let rv = call(1, null, count);
    if (rv !== 0) return { rv, slots: [] };
    const list = arena.take(max * POINTER_BYTES);
    const room = arena.words(max);
    rv = call(1, list, room);
    return { rv, slots: rv === 0 ? this.#handles('GetSlotList', list, arena.word(room), max) : [] };
  }

  /** A copy of CK_TOKEN_INFO. */
  C_GetTokenInfo(slot: Handle): { rv: number; info: Uint8Array } {
    this.#arena.reset();
    const info = this.#arena.take(CK_TOKEN_INFO_BYTES);
    const rv = this.#call('GetTokenInfo', 'ulong slot, void *info')(slot, info);
    return { rv, info: this.#arena.bytes(info, CK_TOKEN_INFO_BYTES).slice() };
  }

  /** A session that only reads. */
  C_OpenSession(slot: Handle): { rv: number; session: Handle } {
    this.#arena.reset();
    const session = this.#arena.words(0);
    const call = this.#call('OpenSession', 'ulong slot, ulong flags, void *application, void *notify, void *session');
    const rv = call(slot, CKF_SERIAL_SESSION, null, null, session);
    return { rv, session: this.#arena.word(session) };
  }

  C_CloseSession(session: Handle): number {
    return this.#call('CloseSession', 'ulong session')(session);
  }

  C_GetSessionInfo(session: Handle): { rv: number; state: number } {
    this.#arena.reset();
    const info = this.#arena.take(CK_SESSION_INFO_BYTES);
    const rv = this.#call('GetSessionInfo', 'ulong session, void *info')(session, info);
    return { rv, state: Number(this.#arena.word(info, 1)) };
  }

  /** @param pin undefined: the reader has keys of its own to enter it */
  C_Login(session: Handle, user: number, pin: Uint8Array | undefined): number {
    this.#arena.reset();
    const call = this.#call('Login', 'ulong session, ulong user, void *pin, ulong length');
    try {
      return call(session, user, pin === undefined ? null : this.#arena.put(pin), pin?.length ?? 0);
    } finally {
      this.#arena.reset();
      wipeCallStack();
    }
  }

  C_Logout(session: Handle): number {
    return this.#call('Logout', 'ulong session')(session);
  }

  C_FindObjectsInit(session: Handle, attributes: readonly SearchAttribute[]): number {
    const arena = this.#arena;
    arena.reset();
    const placed = attributes.flatMap(({ type, value }) => [type, arena.put(value), value.length]);
    const template = arena.words(...placed);
    const call = this.#call('FindObjectsInit', 'ulong session, void *template, ulong count');
    return call(session, template, attributes.length);
  }

  C_FindObjects(session: Handle, max: number): { rv: number; objects: readonly Handle[] } {
    const arena = this.#arena;
    arena.reset();
    const list = arena.take(max * POINTER_BYTES);
    const count = arena.words(0);
    const rv = this.#call('FindObjects', 'ulong session, void *list, ulong max, void *count')(
      session,
      list,
      max,
      count,
    );
    return { rv, objects: rv === 0 ? this.#handles('FindObjects', list, arena.word(count), max) : [] };
  }

  C_FindObjectsFinal(session: Handle): number {
    return this.#call('FindObjectsFinal', 'ulong session')(session);
  }

  /** One attribute, of `room` bytes at most; undefined where the object has it not, or has more. */
  C_GetAttributeValue(session: Handle, object: Handle, type: number, room: number): Uint8Array | undefined {
    const arena = this.#arena;
    arena.reset();
    const value = arena.take(room);
    const template = arena.words(type, value, room);
    const call = this.#call('GetAttributeValue', 'ulong session, ulong object, void *template, ulong count');
    const rv = call(session, object, template, 1);
    const length = arena.word(template, 2);
    return rv === 0 && length <= BigInt(room) ? arena.bytes(value, Number(length)).slice() : undefined;
  }

  /** @param mechanism one that takes no parameter */
  C_SignInit(session: Handle, mechanism: number, key: Handle): number {
    this.#arena.reset();
    const words = this.#arena.words(mechanism, 0, 0);
    return this.#call('SignInit', 'ulong session, void *mechanism, ulong key')(session, words, key);
  }

  C_Sign(session: Handle, data: Uint8Array, room: number): { rv: number; signature: Uint8Array } {
    const arena = this.#arena;
    arena.reset();
    const place = arena.put(data);
    const out = arena.take(room);
    const length = arena.words(room);
    const call = this.#call('Sign', 'ulong session, void *data, ulong dataLength, void *out, void *length');
    const rv = call(session, place, data.length, out, length);
    if (rv === 0 && arena.word(length) > BigInt(room))
      throw new BadProviderError('C_Sign gave more than it had room for');
    return { rv, signature: rv === 0 ? arena.bytes(out, Number(arena.word(length))).slice() : new Uint8Array() };
  }
}

const c = {
  dup: bind<(fd: number) => number>('int dup(int fd)'),
  dup2: bind<(fd: number, wanted: number) => number>('int dup2(int fd, int wanted)'),
  prctl: bind<(op: number, a: number, b: number, c: number, d: number) => number>(
    'int prctl(int op, unsigned long a, unsigned long b, unsigned long c, unsigned long d)',
  ),
};

const STDOUT = 1;
const STDERR = 2;
const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;

/** Takes standard output away from foreign code that prints. @returns a descriptor that still leads there */
export function takeStandardOutput(): number {
  const fd = c.dup()(STDOUT);
  c.dup2()(STDERR, STDOUT);
  return fd;
}

/** The kernel ends this process with the one that started it, even while foreign code never returns. Linux alone. */
export function dieWithParent(): void {
  if (isLinux) c.prctl()(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
}
