/**
 * The agent's own process, in the foreground or detached: hardens itself, listens, and stays until a signal or the end of
 * the command that it was started for.
 */
import { closeSync, rmdirSync, unlinkSync, writeSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { type Agent, createAgent } from '../agent/agent.ts';
import type { Log, LogLevel } from '../agent/ports.ts';
import { type Asking, createAsking, defaultWays } from '../backends/asking.ts';
import { createKnownHosts } from '../backends/knownhosts.ts';
import { createRecords, type FileRecords } from '../backends/records.ts';
import { useCrew } from '../native/crew.ts';
import { socketPathOf } from '../native/libc.ts';
import { hasLibcrypto } from '../native/libcrypto.ts';
import type { WebsafeRules } from '../policy/websafe.ts';
import { ControlRefusal, createControlServer } from '../server/control.ts';
import { guardCommands } from '../server/guardcommands.ts';
import { createGuards, type Guards, guardsFolder } from '../server/guards.ts';
import { controlSocketPath, listenOn, listenOnDescriptor } from '../server/listen.ts';
import { lives } from '../server/peer.ts';
import {
  bootClock,
  type Hardening,
  handleSignals,
  hardenProcess,
  UnsafeProcessError,
  watchParent,
} from '../server/process.ts';
import { restWhenIdle } from '../server/rest.ts';
import { type AgentServer, createAgentServer, watchWork } from '../server/server.ts';
import { MAX_SOCKET_PATH } from '../wire/socketpath.ts';
import { configurationFile, homeOf, stateFolder } from './command.ts';
import type { Status } from './control.ts';
import { controlCommands } from './controlcommands.ts';
import { type AgentDevices, createDevices } from './devices.ts';
import { dropKept, restoreKept } from './environment.ts';
import { ConfigurationInForce, ConfigurationRefused } from './inforce.ts';
import { VERSION } from './output.ts';

/** How an agent is to run; a detached one is handed this as JSON. */
export interface ServePlan {
  readonly program: 'ssh-agent' | 'latchkey';
  /** Undefined: activated with a socket, whose file is not ours to remove. */
  readonly path?: string;
  /** A descriptor that listens already; undefined: listen on `path`. */
  readonly fd?: number;
  /** The folder was made for this socket alone and goes with it. */
  readonly removeFolder?: boolean;
  readonly foreground: boolean;
  readonly logLevel?: LogLevel;
  /** Seconds. */
  readonly lifetime?: number;
  readonly fingerprintHash?: string;
  readonly websafe?: WebsafeRules;
  /** What comes from other machines is treated as `latchkey agent` does (`-O guarded`). */
  readonly guarded?: boolean;
  /** Libraries of tokens and security keys that may be loaded: the list of `-P`. */
  readonly providers?: string;
  readonly allowRemoteProviders?: boolean;
  /** End when this process is no longer our parent. */
  readonly parent?: number;
  /** Descriptors of the starter's surroundings that a daemon must not keep open. */
  readonly strangers?: readonly number[];
  /** A descriptor on which the starter waits for SERVING, or for the words why not. */
  readonly starter?: number;
}

/** What a detached agent tells its starter once clients are served and signals handled. */
export const SERVING = 'serving';

/** Lines that `latchkey status` shows of what the agent said last. */
const MAX_RECENT = 200;
/** Connections that it shows, the latest of them: each means looking at its ancestors. `sessions` counts all. */
const MAX_SHOWN_CONNECTIONS = 128;
const LEVELS: Readonly<Record<LogLevel, number>> = { error: 0, info: 1, debug: 2 };
/** As OpenSSH: ended by a signal or with its command; ended under socket activation. */
const ENDED_EXIT = 2;
const ACTIVATED_EXIT = 0;

type Recent = Status['recent'][number];

function createLog(plan: ServePlan): { log: Log; recent: Recent[] } {
  const recent: Recent[] = [];
  const shown = plan.logLevel === undefined ? -1 : LEVELS[plan.logLevel];
  let isHeard = false;
  const log: Log = (level, text) => {
    recent.push({ time: new Date().toISOString(), level, text });
    if (recent.length > MAX_RECENT) recent.shift();
    if (LEVELS[level] > shown) return;
    // Not written by hand: a pipe that nobody empties must not hold up the agent. Nobody may be reading any more; it goes on.
    if (!isHeard) process.stderr.on('error', () => {});
    isHeard = true;
    process.stderr.write(`${text}\n`, () => {});
  };
  return { log, recent };
}

/** What a running agent is made of, for its status. */
interface Running {
  readonly plan: ServePlan;
  readonly socket: string | null;
  readonly agent: Agent;
  readonly devices: AgentDevices;
  readonly server: AgentServer;
  readonly hardening: Hardening;
  readonly recent: Status['recent'];
  readonly records: FileRecords;
  readonly asking: Asking;
  readonly inForce: ConfigurationInForce;
  readonly guards: Guards | undefined;
}

function statusOf({ plan, agent, devices, server, ...parts }: Running): Status {
  return {
    program: plan.program,
    version: VERSION,
    pid: process.pid,
    socket: parts.socket,
    uptimeSeconds: Math.floor(process.uptime()),
    node: process.versions.node,
    openssl: process.versions.openssl,
    ...agent.status(),
    signing: 'libcrypto',
    tokens: agent.providers().map((provider) => ({ provider, tokens: devices.tokens(provider) })),
    process: parts.hardening,
    connections: server
      .peers()
      .slice(-MAX_SHOWN_CONNECTIONS)
      .map((peer) => ({ uid: peer?.uid ?? null, pid: peer?.pid ?? null, processes: peer?.processes() ?? [] })),
    records: parts.records.status(),
    asking: parts.asking.status(),
    configuration: parts.inForce.status(),
    guards: parts.guards?.list().length ?? 0,
    recent: parts.recent,
  };
}

function remove(path: string | undefined): void {
  if (path === undefined) return;
  try {
    unlinkSync(path);
  } catch {
    // Already gone: somebody tidied up.
  }
}

/**
 * Runs the agent. @returns when it listens; the process then lives until it is told to end
 * @throws UnsafeProcessError, ListenError, KeyError, Error with the system's code; also where the starter is gone, since
 * then nobody will learn of this agent
 */
export async function serve(plan: ServePlan): Promise<void> {
  const { starter } = plan;
  if (starter === undefined) return start(plan);
  const tell = (text: string): void => {
    writeSync(starter, text);
    closeSync(starter);
  };
  try {
    await start(plan);
  } catch (error) {
    tell(error instanceof Error ? error.message : 'unknown error');
    throw error;
  }
  tell(SERVING);
}

/**
 * The configuration at the start. Where it has errors, `latchkey agent` does not start; ssh-agent does, since a login
 * session may hang on it, with the stricter table until the file is put right.
 */
async function readConfiguration(file: string, isOpenssh: boolean, log: Log): Promise<ConfigurationInForce> {
  try {
    return await ConfigurationInForce.read(file, isOpenssh ? 'openssh' : 'latchkey', log);
  } catch (error) {
    if (!isOpenssh || !(error instanceof ConfigurationRefused)) throw error;
    for (const { text } of error.errors) log('error', text);
    log(
      'error',
      'the configuration has errors: until it is put right, what comes from other machines is asked for or refused',
    );
    return ConfigurationInForce.without(file, 'openssh', log, error);
  }
}

async function reload(inForce: ConfigurationInForce): Promise<{ rules: number; file: string }> {
  try {
    await inForce.reload();
  } catch (error) {
    if (error instanceof ConfigurationRefused) throw new ControlRefusal(error.message);
    throw error;
  }
  const { rules, file } = inForce.status();
  return { rules, file };
}

async function start(plan: ServePlan): Promise<void> {
  // Node's own key objects would be another way to sign, with copies in the ordinary heap: rather no agent.
  if (!hasLibcrypto())
    throw new UnsafeProcessError('this Node.js hides its libcrypto: keys could not be kept in custody');
  const hardening = hardenProcess();
  // Bad input ends in an error that is caught and answered: nobody reads where it was thrown, and capturing that is dear.
  Error.stackTraceLimit = 0;
  for (const fd of plan.strangers ?? []) closeSync(fd);
  process.title = plan.program;
  const { log, recent } = createLog(plan);
  // Asked programs get the environment that the agent was started with, as it was before our launcher.
  const env: Record<string, string | undefined> = { ...process.env };
  restoreKept(env);
  const own: Record<string, string | undefined> = { ...process.env };
  dropKept(own);
  const devices = createDevices(own, env, log, plan.providers);
  const isOpenssh = plan.program === 'ssh-agent' && plan.guarded !== true;
  const inForce = await readConfiguration(configurationFile(env), isOpenssh, log);
  const { settings } = inForce;
  const records = createRecords(join(stateFolder(env), 'records'), {
    unwritable: settings.records.unwritable ?? (isOpenssh ? 'warn' : 'refuse'),
    maxBytes: settings.records.maxBytes,
    maxFiles: settings.records.maxFiles,
    log,
  });
  const ways = settings.ask.ways ?? (isOpenssh ? ['askpass' as const] : defaultWays(env));
  const asking = createAsking({ ways, env, log, plain: isOpenssh });
  const agent = createAgent({
    ports: {
      log,
      clock: bootClock,
      confirm: asking,
      devices,
      records,
      hosts: createKnownHosts(homeOf(env)),
      lives,
      addRule: (rule, before) => inForce.addRule(rule, before),
    },
    home: homeOf(env),
    ...(plan.websafe === undefined ? {} : { websafe: plan.websafe }),
    ...(plan.allowRemoteProviders === undefined ? {} : { allowRemoteProviders: plan.allowRemoteProviders }),
    ...(plan.lifetime === undefined ? {} : { defaultLifetime: plan.lifetime }),
    ...(plan.fingerprintHash === undefined ? {} : { fingerprintHash: plan.fingerprintHash }),
  });
  inForce.govern(agent);
  const { pages } = agent.custody.status();
  log('debug', `custody: ${pages}`);
  if (pages === 'plain')
    log('error', 'no locked memory to be had (ulimit -l): keys lie in ordinary memory, which may be swapped out');
  const carrier = createAgentServer(agent);
  watchWork(agent, restWhenIdle());
  if (availableParallelism() > 1) useCrew(join(dirname(process.argv[1] ?? ''), 'crew.cjs'));
  const { server } = carrier;
  const socket = plan.path ?? (plan.fd === undefined ? undefined : socketPathOf(plan.fd));
  const guards = socket === undefined ? undefined : createGuards(agent, { folder: guardsFolder(socket), log });
  const running: Running = {
    plan,
    socket: socket ?? null,
    agent,
    devices,
    server: carrier,
    hardening,
    recent,
    records,
    asking,
    inForce,
    guards,
  };
  const control = createControlServer(
    controlCommands({
      agent,
      records,
      status: async () => {
        await devices.lookAtTokens(agent.providers());
        return statusOf(running);
      },
      reload: () => reload(inForce),
      guards: guards === undefined ? new Map() : guardCommands(guards),
    }),
  );
  let controlPath: string | undefined;
  let isEnding = false;
  const end = (why: string, code: number): void => {
    if (isEnding) return;
    isEnding = true;
    agent.removeAll();
    // What waits for a person is refused, and written down before the records are closed.
    agent.questions.endAll('the agent ends');
    setImmediate(() => leave(why, code));
  };
  const leave = (why: string, code: number): void => {
    agent.removeAll();
    guards?.close();
    records.close();
    remove(plan.path);
    remove(controlPath);
    if (plan.removeFolder && plan.path !== undefined) {
      try {
        rmdirSync(dirname(plan.path));
      } catch {
        // Somebody put something else there.
      }
    }
    log('info', why);
    process.exit(code);
  };
  handleSignals({
    end: (signal) => end(`exiting on ${signal}`, plan.path === undefined ? ACTIVATED_EXIT : ENDED_EXIT),
    dropKeys: () => {
      agent.removeAll();
      log('info', 'all keys removed on SIGUSR1');
    },
    foreground: plan.foreground,
    ...(plan.program === 'latchkey' ? { reload: () => void inForce.reload().catch(() => {}) } : {}),
  });
  if (plan.parent !== undefined) watchParent(plan.parent, () => end('the command has ended', ENDED_EXIT));

  if (plan.fd !== undefined) await listenOnDescriptor(server, plan.fd);
  else if (plan.path !== undefined) await listenOn(server, plan.path);
  server.on('error', (error) => log('error', `listening: ${error.message}`));

  if (socket === undefined) return;
  const beside = controlSocketPath(socket);
  if (Buffer.byteLength(beside) > MAX_SOCKET_PATH) {
    log('info', 'no control socket: its path would be too long');
    return;
  }
  try {
    await listenOn(control, beside);
    controlPath = beside;
  } catch (error) {
    log('error', `no control socket: ${error instanceof Error ? error.message : ''}`);
  }
}
