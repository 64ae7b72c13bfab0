// What the environment tells Node, OpenSSL and the dynamic linker has no effect on our programs: the launcher
// (scripts/launcher.sh) takes the variables named here away before Node starts and keeps each one that was set as
// LATCHKEY_KEPT_<NAME>. A command or prompt that we start must get its environment unchanged: restoreKept() gives it
// back. scripts/build.mjs writes the list below into the launcher, so that it has this one place.

/** The mark before the name of a variable that the launcher took away. */
export const KEPT_PREFIX = 'LATCHKEY_KEPT_';

/**
 * Set by the launcher for command mode only, maybe empty: base64 of lines `NAME=value` (a newline within one as NUL).
 * They are what a shell cannot hand on: entries whose name is no shell name, and those that shells set themselves.
 */
export const KEPT_ENTRIES = 'LATCHKEY_KEPT_ENTRIES';

/**
 * Also set in command mode only, of what the launcher was started with. State: a line with the soft limit of open files,
 * then the lines SigBlk and SigIgn of proc(5). Descriptors: those above 2 that are open, with spaces between. Words: set
 * where the command line is not plain ASCII, and then /proc/self/cmdline still has its bytes.
 */
const KEPT_STATE = 'LATCHKEY_KEPT_STATE';
const KEPT_DESCRIPTORS = 'LATCHKEY_KEPT_DESCRIPTORS';
const KEPT_WORDS = 'LATCHKEY_KEPT_WORDS';

/** Variables that shells set or change when they start; KEPT_ENTRIES has them as they were. */
export const SHELLS_OWN: readonly string[] = [
  '_',
  'BASH',
  'BASHOPTS',
  'EUID',
  'IFS',
  'LINENO',
  'OLDPWD',
  'OPTIND',
  'PPID',
  'PS4',
  'PWD',
  'RANDOM',
  'SECONDS',
  'SHELLOPTS',
  'SHLVL',
  'UID',
];

/** The variables that the launcher takes away. Those of Node: from its documentation and the binaries of 20, 24, 26. */
export const DROPPED: readonly string[] = [
  'NODE_CHANNEL_FD',
  'NODE_CHANNEL_SERIALIZATION_MODE',
  'NODE_CLUSTER_SCHED_POLICY',
  'NODE_COMPILE_CACHE',
  'NODE_COMPILE_CACHE_PORTABLE',
  'NODE_COMPILE_CACHE_READONLY',
  'NODE_DEBUG',
  'NODE_DEBUG_NATIVE',
  'NODE_DISABLE_COLORS',
  'NODE_DISABLE_COMPILE_CACHE',
  'NODE_EXTRA_CA_CERTS',
  'NODE_ICU_DATA',
  'NODE_INSPECT_RESUME_ON_START',
  'NODE_MANY_ACCEPTS',
  'NODE_NO_READLINE',
  'NODE_NO_WARNINGS',
  'NODE_OPTIONS',
  'NODE_PATH',
  'NODE_PENDING_DEPRECATION',
  'NODE_PENDING_PIPE_INSTANCES',
  'NODE_PRESERVE_SYMLINKS',
  'NODE_PRESERVE_SYMLINKS_MAIN',
  'NODE_REDIRECT_WARNINGS',
  'NODE_REPL_EXTERNAL_MODULE',
  'NODE_REPL_HISTORY',
  'NODE_REPL_HISTORY_SIZE',
  'NODE_REPL_MODE',
  'NODE_SKIP_PLATFORM_CHECK',
  'NODE_TEST_CONTEXT',
  'NODE_TEST_WORKER_ID',
  'NODE_TLS_REJECT_UNAUTHORIZED',
  'NODE_UNIQUE_ID',
  'NODE_USE_ENV_PROXY',
  'NODE_USE_SYSTEM_CA',
  'NODE_V8_COVERAGE',
  'WATCH_REPORT_DEPENDENCIES',
  'UV_THREADPOOL_SIZE',
  'UV_USE_IO_URING',
  'ICU_DATA',
  'ICU_TIMEZONE_FILES_DIR',
  'OPENSSL_CONF',
  'OPENSSL_CONF_INCLUDE',
  'OPENSSL_ENGINES',
  'OPENSSL_MODULES',
  'OPENSSL_ia32cap',
  'OPENSSL_armcap',
  'OPENSSL_ppccap',
  'OPENSSL_riscvcap',
  'OPENSSL_s390xcap',
  'SSL_CERT_DIR',
  'SSL_CERT_FILE',
  'SSLKEYLOGFILE',
  'CTLOG_FILE',
  'QLOGDIR',
  'LD_AUDIT',
  'LD_DEBUG',
  'LD_DEBUG_OUTPUT',
  'LD_LIBRARY_PATH',
  'LD_PRELOAD',
  'LD_PROFILE',
  'DYLD_FRAMEWORK_PATH',
  'DYLD_INSERT_LIBRARIES',
  'DYLD_LIBRARY_PATH',
  'GLIBC_TUNABLES',
  'MALLOC_CHECK_',
  'MALLOC_PERTURB_',
  'MALLOC_TRACE',
];

type Environment = Record<string, string | undefined>;

/**
 * Makes `env` (changed in place) what it was before the launcher: for a program that we start. Names outside of the
 * list are not restored, so that nobody gets a variable past a filter under our prefix.
 */
export function restoreKept(env: Environment): void {
  const entries = keptEntries(env);
  for (const name of DROPPED) {
    const value = env[KEPT_PREFIX + name];
    if (value !== undefined) env[name] = value;
  }
  dropKept(env);
  if (entries === undefined) return;
  for (const name of SHELLS_OWN) delete env[name];
  for (const { name, value } of entries) env[Buffer.from(name).toString('utf8')] = Buffer.from(value).toString('utf8');
}

/** An entry of the environment as it was given: maybe not UTF-8. */
export interface EntryBytes {
  readonly name: Uint8Array;
  readonly value: Uint8Array;
}

/**
 * The entries that the launcher's shell could not hand on, or undefined where it kept none. Left out is what no program
 * can look up: entries without a name, or without an equals sign.
 */
export function keptEntries(env: Environment): readonly EntryBytes[] | undefined {
  const kept = env[KEPT_ENTRIES];
  if (kept === undefined) return undefined;
  const entries: EntryBytes[] = [];
  // One character for each byte, so that nothing is lost.
  for (const line of Buffer.from(kept, 'base64').toString('latin1').split('\n')) {
    const entry = line.replaceAll('\0', '\n');
    const cut = entry.indexOf('=');
    if (cut <= 0) continue;
    entries.push({
      name: Buffer.from(entry.slice(0, cut), 'latin1'),
      value: Buffer.from(entry.slice(cut + 1), 'latin1'),
    });
  }
  return entries;
}

/** What the launcher was started with, besides words and environment. Undefined or empty: not known. */
export interface KeptState {
  /** The soft limit. */
  readonly openFiles: number | undefined;
  /** Bit n - 1 stands for signal n. */
  readonly ignored: bigint;
  readonly blocked: bigint;
  /** Those above 2. */
  readonly descriptors: readonly number[];
  /** Whether /proc/self/cmdline has the words, which may not be UTF-8. */
  readonly words: boolean;
}

/** Reads what the launcher kept for a command; what is malformed counts as not known. */
export function keptState(env: Environment): KeptState {
  const state = env[KEPT_STATE] ?? '';
  const limit = /^[0-9]{1,15}$/m.exec(state)?.[0];
  const mask = (name: string): bigint =>
    BigInt(`0x${new RegExp(`^${name}:\\s*([0-9a-f]{1,16})$`, 'm').exec(state)?.[1] ?? '0'}`);
  return {
    openFiles: limit === undefined ? undefined : Number(limit),
    ignored: mask('SigIgn'),
    blocked: mask('SigBlk'),
    descriptors: (env[KEPT_DESCRIPTORS] ?? '')
      .split(' ')
      .filter((word) => /^[0-9]{1,9}$/.test(word))
      .map(Number)
      .filter((fd) => fd > 2),
    words: env[KEPT_WORDS] !== undefined,
  };
}

/** Deletes from `env` (changed in place) all that the launcher kept: for a program of our own, which wants none of it. */
export function dropKept(env: Environment): void {
  for (const name of DROPPED) delete env[KEPT_PREFIX + name];
  for (const name of [KEPT_ENTRIES, KEPT_STATE, KEPT_DESCRIPTORS, KEPT_WORDS]) delete env[name];
}
