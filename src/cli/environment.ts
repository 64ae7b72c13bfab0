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
  const entries = env[KEPT_ENTRIES];
  for (const name of DROPPED) {
    const value = env[KEPT_PREFIX + name];
    if (value !== undefined) env[name] = value;
  }
  dropKept(env);
  if (entries === undefined) return;
  for (const name of SHELLS_OWN) delete env[name];
  for (const line of Buffer.from(entries, 'base64').toString('utf8').split('\n')) {
    const entry = line.replaceAll('\0', '\n');
    const cut = entry.indexOf('=');
    if (cut > 0) env[entry.slice(0, cut)] = entry.slice(cut + 1);
  }
}

/** Deletes from `env` (changed in place) all that the launcher kept: for a program of our own, which wants none of it. */
export function dropKept(env: Environment): void {
  for (const name of DROPPED) delete env[KEPT_PREFIX + name];
  delete env[KEPT_ENTRIES];
}
