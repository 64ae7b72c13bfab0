/**
 * An sshd on the loopback with its own configuration, host keys and authorised keys, and the ssh_config that clients
 * need to reach it. It lets in who runs the tests (as root, or alone as that user), by public key only. Each server
 * tells its sessions a word of its own in LATCHKEY_HOST, so that a command's output shows where it ran.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const SSHD = '/usr/sbin/sshd';
const PORT_TRIES = 5;
const START_MS = 20_000;
const STOP_MS = 5_000;

export interface SshdOptions {
  /** Its name in ssh_config and, as HostKeyAlias, in known_hosts. */
  readonly name: string;
  /** Default 127.0.0.1. */
  readonly address?: string;
  /** Lines of authorized_keys. */
  readonly authorizedKeys?: readonly string[];
  /** Public key lines of the authorities whose user certificates are taken. */
  readonly userAuthorities?: readonly string[];
  /** Private key file of the authority that signs the host key for the principal `name`. */
  readonly hostAuthority?: string;
  /** Lines of sshd_config that go before all others: the first value counts. */
  readonly config?: readonly string[];
  /** False: no host key file; `config` says where the host keys are. */
  readonly ownHostKey?: boolean;
}

export interface Sshd {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  /** What LATCHKEY_HOST is in its sessions; unknown elsewhere. */
  readonly word: string;
  /** The public line of the host key, 'ssh-ed25519 AAAA...'; '' without one of its own. */
  readonly hostKey: string;
  /** All that it has logged since its start. */
  log(): string;
  /** The keys that were let in so far: 'ED25519 SHA256:...', with certificates followed by ' ID ... CA ...'. */
  accepted(): string[];
  stop(): Promise<void>;
}

export const user: string = userInfo().username;

/** Runs ssh-keygen in `folder`. @throws Error with its words when it fails */
export function keygen(folder: string, ...args: readonly string[]): string {
  const run = spawnSync('/usr/bin/ssh-keygen', args, { cwd: folder, encoding: 'utf8', input: '' });
  if (run.status !== 0) throw new Error(`ssh-keygen ${args.join(' ')}: ${run.stderr}${run.stdout}`);
  return run.stdout;
}

function freePort(address: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, address, () => {
      const found = server.address();
      server.close(() =>
        found !== null && typeof found === 'object' ? resolve(found.port) : reject(new Error('no port')),
      );
    });
  });
}

function writeConfig(folder: string, options: SshdOptions, word: string): string[] {
  const lines = [...(options.config ?? [])];
  if (options.ownHostKey !== false) {
    keygen(folder, '-q', '-t', 'ed25519', '-N', '', '-C', options.name, '-f', 'host');
    lines.push(`HostKey ${join(folder, 'host')}`);
    if (options.hostAuthority !== undefined) {
      keygen(folder, '-q', '-s', options.hostAuthority, '-h', '-I', options.name, '-n', options.name, 'host.pub');
      lines.push(`HostCertificate ${join(folder, 'host-cert.pub')}`);
    }
  }
  const text = (entries: readonly string[]): string => entries.map((entry) => `${entry.trim()}\n`).join('');
  writeFileSync(join(folder, 'authorized_keys'), text(options.authorizedKeys ?? []));
  writeFileSync(join(folder, 'authorities'), text(options.userAuthorities ?? []));
  lines.push(
    `AuthorizedKeysFile ${join(folder, 'authorized_keys')}`,
    `TrustedUserCAKeys ${join(folder, 'authorities')}`,
    // A home of its own: what the start-up files of the person's shell print or do is none of the tests' business.
    `SetEnv LATCHKEY_HOST=${word} HOME=${join(folder, 'home')}`,
    'PermitUserRC no',
    'PidFile none',
    'StrictModes no',
    'UsePAM no',
    'UseDNS no',
    'PermitRootLogin yes',
    'AuthenticationMethods publickey',
    // An agent may hold more keys than sshd's default of 6 tries.
    'MaxAuthTries 50',
    'MaxStartups 100',
    // Names the algorithm of each signature, and the requests of each session.
    'LogLevel DEBUG2',
    'Subsystem sftp internal-sftp',
  );
  return lines;
}

/** Starts a server, with its files in `folder`/sshd-NAME, and returns when it listens. */
export async function startSshd(folder: string, options: SshdOptions): Promise<Sshd> {
  const address = options.address ?? '127.0.0.1';
  const place = join(folder, `sshd-${options.name}`);
  mkdirSync(join(place, 'home'), { recursive: true });
  // Where sshd locks itself in before a log-in; an init script makes it elsewhere.
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  const word = `${options.name}-${randomBytes(8).toString('hex')}`;
  const lines = writeConfig(place, options, word);
  const logFile = join(place, 'log');
  const configFile = join(place, 'sshd_config');
  let said = '';
  for (let attempt = 0; attempt < PORT_TRIES; attempt++) {
    const port = await freePort(address);
    writeFileSync(configFile, [...lines, `ListenAddress ${address}:${port}`, ''].join('\n'));
    writeFileSync(logFile, '');
    // Not -e: what a session logs before it runs the command would be in the command's standard error. A process group
    // of its own, so that its sessions end with it.
    const child = spawn(SSHD, ['-D', '-E', logFile, '-f', configFile], { stdio: 'ignore', detached: true });
    if (await listens(child, logFile)) {
      const hostKey = options.ownHostKey === false ? '' : readFileSync(join(place, 'host.pub'), 'utf8').trim();
      return running({ name: options.name, address, port, word, hostKey }, child, logFile);
    }
    said = readFileSync(logFile, 'utf8');
    // Somebody else may have taken the port meanwhile.
    if (!said.includes('Address already in use')) break;
  }
  throw new Error(`sshd did not start: ${said}`);
}

async function listens(child: ChildProcess, logFile: string): Promise<boolean> {
  let failure: Error | undefined;
  child.once('error', (error) => {
    failure = error;
  });
  for (const end = Date.now() + START_MS; Date.now() < end; await sleep(10)) {
    if (failure !== undefined) throw failure;
    if (child.exitCode !== null || child.signalCode !== null) return false;
    if (readFileSync(logFile, 'utf8').includes('Server listening on')) return true;
  }
  stopGroup(child, 'SIGKILL');
  return false;
}

function stopGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // It is gone.
  }
}

type Place = Pick<Sshd, 'name' | 'address' | 'port' | 'word' | 'hostKey'>;

function running(place: Place, child: ChildProcess, logFile: string): Sshd {
  const exit = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const log = (): string => readFileSync(logFile, 'utf8');
  return {
    ...place,
    log,
    accepted: () => [...log().matchAll(/^Accepted publickey for .* ssh2: (.*?)\r?$/gm)].map((match) => match[1] ?? ''),
    async stop() {
      stopGroup(child, 'SIGTERM');
      await Promise.race([exit, sleep(STOP_MS, undefined, { ref: false })]);
      stopGroup(child, 'SIGKILL');
    },
  };
}

/**
 * Writes an ssh_config in which each server has its name, and known_hosts beside it. No key file of the user's is
 * offered: what logs in comes from an agent. `lines` go first.
 */
export function writeClientConfig(path: string, servers: readonly Sshd[], lines: readonly string[] = []): string {
  const knownHosts = `${path}.known_hosts`;
  const hosts = servers.filter(({ hostKey }) => hostKey !== '');
  const known = hosts.map(({ name, address, port, hostKey }) => `${name},[${address}]:${port} ${hostKey}\n`);
  writeFileSync(knownHosts, known.join(''));
  const config = [...lines];
  for (const { name, address, port } of servers)
    config.push(`Host ${name}`, `  HostName ${address}`, `  Port ${port}`, `  HostKeyAlias ${name}`);
  config.push(
    'Host *',
    `  User ${user}`,
    `  UserKnownHostsFile ${knownHosts}`,
    '  GlobalKnownHostsFile none',
    '  StrictHostKeyChecking yes',
    '  UpdateHostKeys no',
    '  IdentityFile none',
    '  PreferredAuthentications publickey',
    '',
  );
  writeFileSync(path, config.join('\n'));
  return path;
}
