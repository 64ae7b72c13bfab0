/**
 * The drop-in ssh-agent: flags, texts and exit codes of OpenSSH 10.5 (OPENSSH.md section 1). Differences: lines on
 * standard error end in LF, a dead socket at -a is replaced, and paths are quoted so that every shell reads them right.
 */
import { homedir, userInfo } from 'node:os';
import { openFilesLimit, SystemError, strerror } from '../native/libc.ts';
import { defaultWebsafe, type WebsafeRules, withWebsafeOption } from '../policy/websafe.ts';
import { cleanStaleSockets, ListenError, privateSocketPath, temporarySocketPath } from '../server/listen.ts';
import { become, leave, SERVE, startDetached } from './daemon.ts';
import { systemErrorText } from './errors.ts';
import { getopt } from './getopt.ts';
import { Fatal, standardOutput, VERSION } from './output.ts';
import { type ServePlan, serve } from './serve.ts';
import { convtime } from './times.ts';

const LETTERS = 'cDdksTuUVE:a:O:P:t:';
const USAGE = `usage: ssh-agent [-c | -s] [-DdTU] [-a bind_address] [-E fingerprint_hash]
                 [-O option] [-P allowed_providers] [-t life]
       ssh-agent [-TU] [-a bind_address] [-E fingerprint_hash] [-O option]
                 [-P allowed_providers] [-t life] command [arg ...]
       ssh-agent [-c | -s] -k
       ssh-agent -u
       ssh-agent -V`;
const EXAMPLES = `
Examples:
  eval "$(ssh-agent -s)"            start an agent and let this shell use it
  ssh-agent -t 8h ssh host          run one command under an agent of its own
  ssh-agent -D -a ~/.ssh/agent.sock stay in the foreground, for a service
  eval "$(ssh-agent -k)"            end the agent of this shell`;
const HASHES = ['md5', 'sha1', 'sha256', 'sha384', 'sha512'];
const USAGE_EXIT = 1;
/** Below it Node itself fails, some way into its work. */
const MIN_OPEN_FILES = 32;
const output = standardOutput();

class Usage extends Error {}

interface Options {
  shell: 'csh' | 'sh' | undefined;
  debug: boolean;
  foreground: boolean;
  kill: boolean;
  temporary: boolean;
  clean: number;
  keepStale: boolean;
  version: boolean;
  help: boolean;
  path: string | undefined;
  hash: string | undefined;
  lifetime: number | undefined;
  websafe: WebsafeRules;
  providers: string | undefined;
  allowRemoteProviders: boolean;
  guarded: boolean;
  command: readonly string[];
}

/** The value of one -O. */
function applyOption(options: Options, value: string): void {
  if (value === 'allow-remote-pkcs11') {
    options.allowRemoteProviders = true;
    return;
  }
  if (value === 'guarded') {
    options.guarded = true;
    return;
  }
  const rules = withWebsafeOption(options.websafe, value);
  if (rules === undefined) throw new Fatal('Unknown -O option');
  if (rules === 'already-set') throw new Fatal('websafe-allow already set');
  options.websafe = rules;
}

function parse(argv: readonly string[]): Options {
  const options: Options = {
    shell: undefined,
    debug: false,
    foreground: false,
    kill: false,
    temporary: false,
    clean: 0,
    keepStale: false,
    version: false,
    help: false,
    path: undefined,
    hash: undefined,
    lifetime: undefined,
    websafe: defaultWebsafe,
    providers: undefined,
    allowRemoteProviders: false,
    guarded: false,
    command: [],
  };
  const given = getopt(argv, LETTERS, ['help', 'version']);
  const shell = (kind: 'csh' | 'sh'): void => {
    if (options.shell !== undefined && options.shell !== kind) throw new Usage();
    options.shell = kind;
  };
  const stay = (): void => {
    if (options.debug || options.foreground) throw new Usage();
  };
  for (const option of given.options) {
    if (option.kind === 'error') throw new Usage(option.text);
    if (option.kind === 'long') {
      if (option.name === 'help') options.help = true;
      else options.version = true;
      continue;
    }
    const { letter, value = '' } = option;
    switch (letter) {
      case 'c':
        shell('csh');
        break;
      case 's':
        shell('sh');
        break;
      case 'd':
        stay();
        options.debug = true;
        break;
      case 'D':
        stay();
        options.foreground = true;
        break;
      case 'k':
        options.kill = true;
        break;
      case 'T':
        options.temporary = true;
        break;
      case 'u':
        options.clean++;
        break;
      case 'U':
        options.keepStale = true;
        break;
      case 'V':
        options.version = true;
        break;
      case 'a':
        options.path = value;
        break;
      case 'E':
        if (!HASHES.includes(value.toLowerCase())) throw new Fatal(`Invalid hash algorithm "${value}"`);
        options.hash = value.toLowerCase();
        break;
      case 't': {
        const seconds = convtime(value);
        if (seconds === undefined) throw new Usage('Invalid lifetime');
        options.lifetime = seconds;
        break;
      }
      case 'O':
        applyOption(options, value);
        break;
      case 'P':
        if (options.providers !== undefined) throw new Fatal('-P option already specified');
        options.providers = value;
        break;
      default:
        throw new Usage();
    }
  }
  options.command = given.operands;
  const { command, shell: chosen, kill, debug, foreground, clean } = options;
  if (command.length > 0 && (chosen !== undefined || kill || debug || foreground || clean > 0)) throw new Usage();
  return options;
}

/** `path` as one word of a Bourne shell or csh. */
function quoted(path: string, csh: boolean): string {
  if (/^[A-Za-z0-9_@%+=:,./-]+$/.test(path)) return path;
  const safe = path.replaceAll("'", "'\\''");
  return `'${csh ? safe.replaceAll('!', '\\!').replaceAll('\n', '\\\n') : safe}'`;
}

function isCsh(options: Options, env: NodeJS.ProcessEnv): boolean {
  if (options.shell !== undefined) return options.shell === 'csh';
  const shell = env.SHELL ?? '';
  return shell.length > 2 && shell.endsWith('csh');
}

function setLine(name: string, value: string, csh: boolean): string {
  return csh ? `setenv ${name} ${value};` : `${name}=${value}; export ${name};`;
}

function killAgent(csh: boolean, env: NodeJS.ProcessEnv): number {
  const given = env.SSH_AGENT_PID;
  if (given === undefined) {
    output.error('SSH_AGENT_PID not set, cannot kill agent');
    return USAGE_EXIT;
  }
  const pid = /^-?[0-9]{1,20}$/.test(given) ? Number(given) : undefined;
  const wrong = pid === undefined ? 'invalid' : pid < 2 ? 'too small' : pid > 2 ** 31 - 1 ? 'too large' : undefined;
  if (pid === undefined || wrong !== undefined) {
    output.error(`SSH_AGENT_PID="${given}", which is not a good PID: ${wrong}`);
    return USAGE_EXIT;
  }
  try {
    process.kill(pid, 'SIGTERM');
  } catch (error) {
    output.error(`kill: ${strerror(-((error as NodeJS.ErrnoException).errno ?? 0))}`);
    return USAGE_EXIT;
  }
  const unset = csh ? 'unsetenv' : 'unset';
  output.lines([`${unset} SSH_AUTH_SOCK;`, `${unset} SSH_AGENT_PID;`, `echo Agent pid ${pid} killed;`]);
  return 0;
}

function socketPath(options: Options, env: NodeJS.ProcessEnv, home: string): { path: string; removeFolder: boolean } {
  if (options.temporary) {
    const parent = env.TMPDIR !== undefined && env.TMPDIR !== '' ? env.TMPDIR : '/tmp';
    return { path: temporarySocketPath(parent, process.pid), removeFolder: true };
  }
  return { path: options.path ?? privateSocketPath(home), removeFolder: false };
}

/** A socket that systemd or the like handed over (sd_listen_fds): descriptor 3. */
function activatedFd(env: NodeJS.ProcessEnv): number | undefined {
  const { LISTEN_PID: pid, LISTEN_FDS: fds } = env;
  if (pid === undefined || fds === undefined) return undefined;
  if (fds !== '1') throw new Fatal(`unexpected LISTEN_FDS: ${fds}: one socket is served`);
  if (Number(pid) !== process.pid) throw new Fatal(`bad LISTEN_PID: ${pid} vs pid ${process.pid}`);
  return 3;
}

async function runForeground(options: Options, env: NodeJS.ProcessEnv, home: string, plan: ServePlan): Promise<void> {
  const fd = options.path === undefined ? activatedFd(env) : undefined;
  const foreground: ServePlan = { ...plan, foreground: true, logLevel: options.debug ? 'debug' : 'info' };
  if (fd !== undefined) return serve({ ...foreground, fd });
  const { path, removeFolder } = socketPath(options, env, home);
  await serve({ ...foreground, path, removeFolder });
  const csh = isCsh(options, env);
  output.lines([setLine('SSH_AUTH_SOCK', quoted(path, csh), csh), `echo Agent pid ${process.pid};`]);
}

async function run(options: Options, env: NodeJS.ProcessEnv): Promise<number | undefined> {
  if (options.help) {
    output.lines([USAGE, EXAMPLES]);
    return 0;
  }
  if (options.version) {
    output.error(`Latchkey_${VERSION}, OpenSSL ${process.versions.openssl}, Node.js ${process.versions.node}`);
    return 0;
  }
  const csh = isCsh(options, env);
  if (!options.kill && openFilesLimit() < MIN_OPEN_FILES)
    throw new Fatal(
      `ssh-agent: at most ${openFilesLimit()} open files are allowed, ${MIN_OPEN_FILES} are needed (ulimit -n)`,
    );
  if (options.kill) return killAgent(csh, env);
  const home = env.HOME !== undefined && env.HOME !== '' ? env.HOME : userInfo().homedir || homedir();
  if (options.clean > 0) {
    await cleanStaleSockets(home, options.clean > 1);
    output.line('Deleted stale agent sockets in ~/.ssh/agent');
    return 0;
  }
  if (options.path === undefined && !options.temporary && !options.keepStale) await cleanStaleSockets(home, false);
  const plan: ServePlan = {
    program: 'ssh-agent',
    foreground: false,
    ...(options.lifetime === undefined ? {} : { lifetime: options.lifetime }),
    ...(options.hash === undefined ? {} : { fingerprintHash: options.hash }),
    ...(options.providers === undefined ? {} : { providers: options.providers }),
    websafe: options.websafe,
    allowRemoteProviders: options.allowRemoteProviders,
    guarded: options.guarded,
  };
  if (options.debug || options.foreground) {
    await runForeground(options, env, home, plan);
    return undefined;
  }
  const { path, removeFolder } = socketPath(options, env, home);
  const underCommand = options.command.length > 0 ? { parent: process.pid } : {};
  const { pid } = await startDetached(path, { ...plan, removeFolder, ...underCommand });
  if (options.command.length > 0) become(options.command, path, pid, output);
  output.lines([
    setLine('SSH_AUTH_SOCK', quoted(path, csh), csh),
    setLine('SSH_AGENT_PID', String(pid), csh),
    `echo Agent pid ${pid};`,
  ]);
  leave(0);
}

function report(error: unknown, path: string | undefined): number {
  if (error instanceof Usage) {
    if (error.message !== '') output.error(error.message);
    output.error(USAGE);
    return USAGE_EXIT;
  }
  if (error instanceof Fatal) {
    output.error(error.message);
    return error.exitCode;
  }
  if (error instanceof ListenError) {
    output.error(
      path !== undefined ? `unix_listener: ${error.message}` : `main: Couldn't prepare agent socket: ${error.message}`,
    );
    return path === undefined ? 255 : 1;
  }
  if (error instanceof SystemError) output.error(error.message);
  else if ((error as NodeJS.ErrnoException).syscall === 'listen')
    output.error(`unix_listener: cannot bind to path ${path ?? ''}: ${systemErrorText(error)}`);
  else output.error(`ssh-agent: ${error instanceof Error ? error.message : 'unknown error'}`);
  return 1;
}

/** Runs ssh-agent; sets the exit code, or leaves, or becomes the command. */
export async function main(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  let path: string | undefined;
  try {
    if (argv[0] === SERVE) {
      await serve(JSON.parse(argv[1] ?? '') as ServePlan);
      return;
    }
    const options = parse(argv);
    path = options.temporary ? undefined : options.path;
    process.exitCode = (await run(options, env)) ?? 0;
  } catch (error) {
    leave(report(error, path));
  }
}
