/**
 * Thin bindings to the C library, each under its C name, and the few constants that they need. No policy: who calls
 * decides what a failure means. Proven on Linux x86-64 with glibc; the macOS constants are from XNU's headers and unproven.
 */
import { constants } from 'node:os';
import koffi from 'koffi';

try {
  // Calls on other threads get a stack that is unmapped afterwards, with what C functions left on it.
  koffi.config({ resident_async_pools: 0 });
} catch {
  // Somebody else in this process has loaded a library with koffi already.
}
const library = koffi.load(null);
export const isLinux: boolean = process.platform === 'linux';

/** A C function's address as koffi hands it over. */
export type Pointer = bigint;

const bound = new Map<string, unknown>();

/** Binds a C function when it is first used: parsing a prototype is not free, and a command uses few of them. */
export function bind<F>(prototype: string): () => F {
  return () => {
    let fn = bound.get(prototype);
    if (fn === undefined) {
      fn = library.func(prototype);
      bound.set(prototype, fn);
    }
    return fn as F;
  };
}

/** How deep a C function gets on the stack that it is called on, and more. */
const WIPED_STACK_BYTES = 128 * 1024;
let callWithZeros: ((zeros: { readonly bytes: Uint8Array }) => number) | undefined;
let zeros: Pages | undefined;

/**
 * Overwrites what earlier calls left on their stack. libcrypto wipes what it frees, not every local variable: copies of a
 * P-256 key and of its nonces were found. koffi calls C functions on a stack of its own, which little else overwrites; a
 * struct that is handed over by value lies just where their variables were (System V calls on x86-64; elsewhere large
 * structs go by reference, and this does nothing).
 */
export function wipeCallStack(): void {
  callWithZeros ??= library.func('getppid', 'int', [
    koffi.struct({ bytes: koffi.array('uint8_t', WIPED_STACK_BYTES) }),
  ]);
  // Pages that nobody writes to take no memory.
  zeros ??= mapPlain(WIPED_STACK_BYTES);
  callWithZeros?.(zeros);
}

/** Before the thread that called wipeCallStack ends: each has its own. */
export function unmapZeros(): void {
  if (zeros !== undefined) unmapPages(zeros);
  zeros = undefined;
}

/** Whether this process has a symbol of that name. */
export function hasSymbol(name: string): boolean {
  try {
    library.func(`void ${name}()`);
    return true;
  } catch {
    return false;
  }
}

const c = {
  syscall: bind<(n: number, a: number, b: number, c: number, d: number) => number>(
    'long syscall(long n, long a, long b, long c, long d)',
  ),
  ftruncate: bind<(fd: number, length: number) => number>('int ftruncate(int fd, long length)'),
  close: bind<(fd: number) => number>('int close(int fd)'),
  mmap: bind<
    (a: null, length: number, protection: number, flags: number, fd: number, offset: number) => Pointer | null
  >('void *mmap(void *a, size_t length, int protection, int flags, int fd, long offset)'),
  munmap: bind<(a: Pointer, length: number) => number>('int munmap(void *a, size_t length)'),
  mlock: bind<(a: Pointer, length: number) => number>('int mlock(void *a, size_t length)'),
  madvise: bind<(a: Pointer, length: number, advice: number) => number>(
    'int madvise(void *a, size_t length, int advice)',
  ),
  prctl: bind<(op: number, a: number, b: number, c: number, d: number) => number>(
    'int prctl(int op, unsigned long a, unsigned long b, unsigned long c, unsigned long d)',
  ),
  setrlimit: bind<(resource: number, limit: BigUint64Array) => number>(
    'int setrlimit(int resource, const uint64_t *limit)',
  ),
  getrlimit: bind<(resource: number, limit: BigUint64Array) => number>('int getrlimit(int resource, uint64_t *limit)'),
  getsockopt: bind<(fd: number, level: number, name: number, value: Uint8Array, length: Uint32Array) => number>(
    'int getsockopt(int fd, int level, int name, uint8_t *value, uint32_t *length)',
  ),
  clock_gettime: bind<(clock: number, time: BigInt64Array) => number>('int clock_gettime(int clock, int64_t *time)'),
  getsockname: bind<(fd: number, address: Uint8Array, length: Uint32Array) => number>(
    'int getsockname(int fd, uint8_t *address, uint32_t *length)',
  ),
  getpeereid: bind<(fd: number, uid: Uint32Array, gid: Uint32Array) => number>(
    'int getpeereid(int fd, uint32_t *uid, uint32_t *gid)',
  ),
  ptrace: bind<(request: number, pid: number, address: null, data: number) => number>(
    'int ptrace(int request, int pid, void *address, int data)',
  ),
  fcntl: bind<(fd: number, command: number, argument: number) => number>(
    'int fcntl(int fd, int command, int argument)',
  ),
  signal: bind<(number: number, handler: Pointer | null) => Pointer | null>('void *signal(int number, void *handler)'),
  sigprocmask: bind<(how: number, set: Uint8Array, old: null) => number>(
    'int sigprocmask(int how, const uint8_t *set, void *old)',
  ),
  getenv: bind<(name: string) => Pointer | null>('void *getenv(const char *name)'),
  setenv: bind<(name: Uint8Array, value: Uint8Array | Pointer, overwrite: number) => number>(
    'int setenv(const void *name, const void *value, int overwrite)',
  ),
  execvp: bind<(file: Pointer, argv: Pointer) => number>('int execvp(const void *file, void *argv)'),
  strerror: bind<(errno: number) => string>('const char *strerror(int errno)'),
  setgid: bind<(gid: number) => number>('int setgid(int gid)'),
};

/** The C library's words for an errno value, as OpenSSH's messages have them. */
export function strerror(errno: number): string {
  return c.strerror()(errno);
}

/** A failed call: `errno` and its words. */
export class SystemError extends Error {
  readonly errno: number;

  constructor(call: string, errno: number = koffi.errno()) {
    super(`${call}: ${strerror(errno)}`);
    this.name = 'SystemError';
    this.errno = errno;
  }
}

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = isLinux ? 0x20 : 0x1000;
const MAP_FAILED = 0xffffffffffffffffn;
const SYS_pidfd_send_signal = 424; // the same on all architectures
const ENOPROTOOPT = 92;
const SYS_memfd_secret = 447; // the same on x86-64, arm64 and riscv64
const O_CLOEXEC = 0o2000000;
const MADV_DONTFORK = 10;
const MADV_DONTDUMP = 16;
const MADV_WIPEONFORK = 18;

/** How well pages are kept from others: unmapped from the kernel's own view, locked against swap, or neither. */
export type PageKind = 'memfd_secret' | 'locked' | 'plain';

/** Pages outside of the JavaScript heap. */
export interface Pages {
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly kind: PageKind;
}

function view(address: Pointer, length: number): Uint8Array {
  return new Uint8Array(koffi.view(address, length));
}

function isMapped(address: Pointer | null): address is Pointer {
  return address !== null && address !== MAP_FAILED;
}

function mapSecret(length: number): Pages | undefined {
  if (!isLinux) return undefined;
  const fd = c.syscall()(SYS_memfd_secret, O_CLOEXEC, 0, 0, 0);
  if (fd < 0) return undefined;
  try {
    if (c.ftruncate()(fd, length) !== 0) return undefined;
    const address = c.mmap()(null, length, PROT_READ_WRITE, MAP_SHARED, fd, 0);
    if (!isMapped(address)) return undefined;
    // A forked child must not hold the pages, not even until it runs its program.
    c.madvise()(address, length, MADV_DONTFORK);
    return { address: Number(address), bytes: view(address, length), kind: 'memfd_secret' };
  } finally {
    c.close()(fd);
  }
}

/**
 * Maps `length` bytes (a multiple of the page size) for secrets: memfd_secret(2) pages, or else anonymous pages that are
 * locked, left out of core dumps and wiped in a forked child.
 * @param accept which kinds will do; the first that can be had is taken
 * @returns undefined where none can be had, most often since the limit of locked memory (RLIMIT_MEMLOCK) is reached
 */
export function mapPages(length: number, accept: readonly PageKind[]): Pages | undefined {
  if (accept.includes('memfd_secret')) {
    const secret = mapSecret(length);
    if (secret !== undefined) return secret;
  }
  if (!accept.includes('locked') && !accept.includes('plain')) return undefined;
  const address = c.mmap()(null, length, PROT_READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (!isMapped(address)) return undefined;
  const locked = accept.includes('locked') && c.mlock()(address, length) === 0;
  const kind = locked ? 'locked' : 'plain';
  if (!accept.includes(kind)) {
    c.munmap()(address, length);
    return undefined;
  }
  if (isLinux) {
    c.madvise()(address, length, MADV_DONTDUMP);
    c.madvise()(address, length, MADV_WIPEONFORK);
  }
  return { address: Number(address), bytes: view(address, length), kind };
}

/** Gives pages back. The caller has wiped them, and no view of them may be used again. */
export function unmapPages(pages: Pages): void {
  c.munmap()(BigInt(pages.address), pages.bytes.length);
}

/** Ordinary memory with a fixed address, for arguments of calls that run on another thread. Never given back. */
export function mapPlain(length: number): Pages {
  const address = c.mmap()(null, length, PROT_READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (!isMapped(address)) throw new SystemError('mmap');
  return { address: Number(address), bytes: view(address, length), kind: 'plain' };
}

const PR_SET_DUMPABLE = 4;
const PT_DENY_ATTACH = 31;
const RLIMIT_CORE = 4;
const RLIMIT_NOFILE = isLinux ? 7 : 8;

/** No core file, no debugger of the same user, /proc/PID owned by root. @returns whether the system agreed */
export function denyTracing(): boolean {
  if (isLinux) return c.prctl()(PR_SET_DUMPABLE, 0, 0, 0, 0) === 0;
  if (process.platform === 'darwin') return c.ptrace()(PT_DENY_ATTACH, 0, null, 0) === 0;
  return false;
}

export function denyCoreFiles(): boolean {
  return c.setrlimit()(RLIMIT_CORE, new BigUint64Array([0n, 0n])) === 0;
}

/** The soft limit of open files. */
export function openFilesLimit(): number {
  const limit = new BigUint64Array(2);
  if (c.getrlimit()(RLIMIT_NOFILE, limit) !== 0) throw new SystemError('getrlimit');
  return Number(limit[0] as bigint);
}

/** Gives up a set-group-id group, as OpenSSH does first thing. */
export function dropGroup(): void {
  const { getgid, getegid } = process;
  if (getgid !== undefined && getegid !== undefined && getgid() !== getegid()) c.setgid()(getgid());
}

export interface PeerCredentials {
  readonly uid: number;
  readonly gid: number;
  /** Undefined where the system does not tell. */
  readonly pid: number | undefined;
}

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SO_PEERPIDFD = 77;
const SOL_LOCAL = 0;
const LOCAL_PEERPID = 2;
const credentials = new Uint8Array(12);
const credentialWords = new DataView(credentials.buffer);
const credentialLength = new Uint32Array(1);

/** Who connected to a Unix socket, as the kernel recorded it. @throws SystemError */
export function peerCredentials(fd: number): PeerCredentials {
  if (isLinux) {
    credentialLength[0] = 12;
    if (c.getsockopt()(fd, SOL_SOCKET, SO_PEERCRED, credentials, credentialLength) !== 0)
      throw new SystemError('getsockopt');
    return {
      pid: credentialWords.getInt32(0, true),
      uid: credentialWords.getUint32(4, true),
      gid: credentialWords.getUint32(8, true),
    };
  }
  const uid = new Uint32Array(1);
  const gid = new Uint32Array(1);
  if (c.getpeereid()(fd, uid, gid) !== 0) throw new SystemError('getpeereid');
  credentialLength[0] = 4;
  const known = c.getsockopt()(fd, SOL_LOCAL, LOCAL_PEERPID, credentials, credentialLength) === 0;
  return { uid: uid[0] as number, gid: gid[0] as number, pid: known ? credentialWords.getInt32(0, true) : undefined };
}

/**
 * Whether the process that connected still lives under its pid; undefined where the system can't tell (Linux before 6.5).
 * The pid of one that lives can't have been given to another.
 */
export function peerLives(fd: number): boolean | undefined {
  if (!isLinux) return undefined;
  credentialLength[0] = 4;
  if (c.getsockopt()(fd, SOL_SOCKET, SO_PEERPIDFD, credentials, credentialLength) !== 0)
    return koffi.errno() === ENOPROTOOPT ? undefined : false;
  const pidfd = credentialWords.getInt32(0, true);
  // A descriptor of a process that ended becomes readable; one that was reaped can't be signalled.
  const lives = c.syscall()(SYS_pidfd_send_signal, pidfd, 0, 0, 0) === 0;
  c.close()(pidfd);
  return lives;
}

const CLOCK_BOOTTIME = 7;
/** macOS: goes on while the machine sleeps, unlike its other monotonic clocks. */
const CLOCK_MONOTONIC_DARWIN = 6;
const time = new BigInt64Array(2);

/** Milliseconds of a clock that only ever grows and also counts the time that the machine was suspended. */
export function bootMilliseconds(): number {
  if (c.clock_gettime()(isLinux ? CLOCK_BOOTTIME : CLOCK_MONOTONIC_DARWIN, time) !== 0)
    throw new SystemError('clock_gettime');
  return Number(time[0] as bigint) * 1000 + Number(time[1] as bigint) / 1e6;
}

const SUN_PATH_AT = 2;

/** The path that a Unix socket is bound to; undefined where it has none, or `fd` is no socket. */
export function socketPathOf(fd: number): string | undefined {
  const address = new Uint8Array(128);
  const length = new Uint32Array([address.length]);
  if (c.getsockname()(fd, address, length) !== 0) return undefined;
  const path = address.subarray(SUN_PATH_AT, Math.min(length[0] as number, address.length));
  const end = path.indexOf(0);
  const text = new TextDecoder().decode(end < 0 ? path : path.subarray(0, end));
  return text === '' ? undefined : text;
}

const F_SETFD = 2;
const SIG_SETMASK = isLinux ? 2 : 3;

const SIG_DFL = null;
const SIG_IGN = 1n;
const SIGNAL_SET_BYTES = 128;
const POINTER_BYTES = 8;

/** What a program starts with, besides its words and its environment. */
export interface Inheritance {
  /** Descriptors that it gets besides the first three; one that is not open is passed over. */
  readonly descriptors: readonly number[];
  /** Signals that it ignores at first, and that it has blocked: bit n - 1 stands for signal n. */
  readonly ignored: bigint;
  readonly blocked: bigint;
  /** The soft limit of open files; undefined: the one in force. */
  readonly openFiles: number | undefined;
}

/** `words` as C strings, and before them a list of their addresses that ends in NULL. Never given back. */
function argumentBlock(words: readonly Uint8Array[]): { readonly argv: Pointer; readonly first: Pointer } {
  const listBytes = (words.length + 1) * POINTER_BYTES;
  const { address, bytes } = mapPlain(words.reduce((sum, word) => sum + word.length + 1, listBytes));
  const list = new BigUint64Array(bytes.buffer, bytes.byteOffset, words.length + 1);
  let at = listBytes;
  for (const [i, word] of words.entries()) {
    list[i] = BigInt(address + at);
    bytes.set(word, at);
    at += word.length + 1;
  }
  return { argv: BigInt(address), first: BigInt(address + listBytes) };
}

/**
 * Replaces this process by `argv`, its first word found on PATH, with standard input, output and error, and with what
 * Node changed for itself (descriptors, signals, limits) put back. The environment is the C library's own: process.env
 * writes to it, and so do setVariable and copyVariable.
 * @param file the first word, for the error
 * @returns only on failure: the error
 */
export function execvp(file: string, argv: readonly (string | Uint8Array)[], inherited: Inheritance): SystemError {
  const { descriptors, ignored, blocked, openFiles } = inherited;
  const text = new TextEncoder();
  const block = argumentBlock(argv.map((word) => (typeof word === 'string' ? text.encode(word) : word)));
  for (const fd of [0, 1, 2, ...descriptors]) c.fcntl()(fd, F_SETFD, 0);
  if (openFiles !== undefined) {
    const limit = new BigUint64Array(2);
    if (c.getrlimit()(RLIMIT_NOFILE, limit) === 0) {
      limit[0] = BigInt(openFiles);
      c.setrlimit()(RLIMIT_NOFILE, limit);
    }
  }
  for (const number of Object.values(constants.signals)) {
    if (number === constants.signals.SIGKILL || number === constants.signals.SIGSTOP) continue;
    c.signal()(number, (ignored >> BigInt(number - 1)) & 1n ? SIG_IGN : SIG_DFL);
  }
  const mask = new Uint8Array(SIGNAL_SET_BYTES);
  new DataView(mask.buffer).setBigUint64(0, blocked, true);
  c.sigprocmask()(SIG_SETMASK, mask, null);
  c.execvp()(block.first, block.argv);
  return new SystemError(file);
}

/** Sets a variable of the environment, byte for byte. @throws SystemError for a name that is empty or has an equals sign */
export function setVariable(name: Uint8Array, value: Uint8Array): void {
  const terminated = (bytes: Uint8Array): Uint8Array => {
    const copy = new Uint8Array(bytes.length + 1);
    copy.set(bytes);
    return copy;
  };
  if (c.setenv()(terminated(name), terminated(value), 1) !== 0) throw new SystemError('setenv');
}

/** Sets the variable `to` to what `from` is, byte for byte, where that is set. */
export function copyVariable(from: string, to: string): void {
  const value = c.getenv()(from);
  if (value !== null) c.setenv()(new TextEncoder().encode(`${to}\0`), value, 1);
}
