// What is measured, phase by phase. Each takes the bench (agents, load generator, settings) and fills bench.results:
// point -> agent -> figures. Within a phase all agents run, and rounds go from agent to agent, so that a machine that
// slows down or is used by others does not count against one of them.
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ANSWER_SECONDS, ask, newFolder, pause, plainEnvironment, prepare, start } from './agents.mjs';
import { addMany, addRequest, isSignature, makeKey, removeAllRequest, signRequest, TYPES } from './keys.mjs';
import { median, memory, opensslSpeed, together } from './measure.mjs';
import { fillRecords } from './records.mjs';

export const CONNECTIONS = [1, 8, 64];
export const LIST_SIZES = [1, 100, 1000];
export const GROWTH_KEYS = [1, 10, 100, 1000, 10000];
export const GROWTH_CONNECTIONS = [1, 10, 100, 1000, 4000];
export const GROWTH_RECORDS = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000];
const GROWTH_AGENTS = ['latchkey', 'openssh', 'go'];
export const IDLE_CONNECTIONS = 2000;
export const MEMORY_KEYS = 2000;
/** An agent that takes long for each key that is added is given fewer. */
const SLOW_ADD_KEYS = 100;
/** Where 8 connections wait longer than this for an answer, in microseconds, 64 are not tried. */
const TOO_SLOW = 250_000;
/** Requests a second of the client whose latency is measured beside others. */
const BESIDE_RATE = 100;
/** Between a change and the reading of memory, in milliseconds: what the agent does when it is idle is done then. */
const SETTLE = 2500;
/** The same at rest: agents may put off what they give back when nobody asks. */
const REST_SETTLE = 12_000;

/** Agents that only pass on are measured at few points. */
const everywhere = (agent) => agent.id !== 'gnome';

async function startAll(bench, agents, keys) {
  const started = [];
  for (const agent of agents) {
    const one = await start(agent, bench.work);
    for (const [i, key] of keys.entries()) await ask(one.socket, addRequest(key, `key ${i}`));
    started.push(one);
  }
  return started;
}

const stopAll = async (started) => {
  for (const one of started) await one.stop();
};

function note(bench, point, one, figures) {
  bench.results[point] ??= {};
  if (figures !== undefined) bench.results[point][one.agent.id] = figures;
}

/** Work that nobody measures; an agent that fails in it is told of, and may do better afterwards. */
async function warm(bench, one, words) {
  try {
    await bench.load.run(...words);
  } catch (error) {
    bench.notes.push(`${one.agent.label}, ${words[0]} before measuring: ${error.message}`);
  }
}

/** Rounds over agents: `measure(one)` gives one round's figures. */
async function rounds(bench, point, started, measure, count = bench.rounds) {
  const all = new Map(started.map((one) => [one, []]));
  for (let round = 0; round < count; round++)
    for (const one of started) {
      try {
        all.get(one).push(await measure(one));
      } catch (error) {
        bench.notes.push(`${point}, ${one.agent.label}: ${error.message}`);
      }
    }
  for (const [one, list] of all) note(bench, point, one, together(list));
  bench.say(point);
}

const blobFile = (bench, key) => {
  const path = join(bench.work, `blob-${++bench.files}`);
  writeFileSync(path, key.blob);
  return path;
};

const signWords = (bench, one, key, file, connections) => [
  ...['sign', '-s', one.socket, '-k', file, '-f', TYPES[key.type].flags, '-c', connections],
  ...['-t', bench.seconds],
];

/** The load generator against an agent that answers at once. */
export async function ceiling(bench) {
  const socket = join(newFolder(bench.work), 's');
  const child = bench.load.spawn(['answer', '-s', socket]);
  await pause(100);
  const one = { agent: { id: 'ceiling', label: 'answers at once' }, socket };
  const key = makeKey('ed25519');
  const file = blobFile(bench, key);
  for (const connections of CONNECTIONS)
    await rounds(bench, `ceiling/sign/${connections}`, [one], () =>
      bench.load.run(...signWords(bench, one, key, file, connections)),
    );
  await rounds(bench, 'ceiling/list', [one], () => bench.load.run('list', '-s', socket, '-t', bench.seconds));
  await rounds(bench, 'ceiling/connect', [one], () => bench.load.run('connect', '-s', socket, '-t', bench.seconds));
  child.kill();
}

/** Signatures a second and their latency. */
export async function sign(bench) {
  const keys = Object.keys(TYPES).map(makeKey);
  const started = await startAll(bench, bench.agents, keys);
  const files = keys.map((key) => blobFile(bench, key));
  const data = Buffer.from('what is signed to see that signatures are right');
  for (const one of started)
    for (const [i, key] of keys.entries()) {
      const message = await ask(one.socket, signRequest(key, data));
      if (message === undefined || !isSignature(key, data, message))
        bench.notes.push(`${one.agent.label} gives no right signature of ${key.type}`);
      // As after some minutes of work: compilers have seen the path, pages are there.
      await warm(bench, one, signWords(bench, one, key, files[i], 8));
    }
  for (const [i, key] of keys.entries())
    for (const connections of CONNECTIONS) {
      const before = bench.results[`sign/${key.type}/8`] ?? {};
      const fit = started.filter(
        ({ agent }) =>
          (connections === 8 || everywhere(agent)) && (connections < 64 || (before[agent.id]?.p50 ?? 0) < TOO_SLOW),
      );
      await rounds(bench, `sign/${key.type}/${connections}`, fit, (one) =>
        bench.load.run(...signWords(bench, one, key, files[i], connections)),
      );
    }
  await stopAll(started);
  for (const type of ['rsa3072', 'rsa4096']) {
    const list = [];
    for (let i = 0; i < bench.rounds; i++) list.push(opensslSpeed(type, 2, bench.quick ? 1 : 2));
    if (list.every((rate) => rate !== undefined))
      bench.results[`sign/${type}/8`].openssl = { rate: median(list), rates: list };
  }
}

/** A file of framed requests that add `count` keys. */
function addFile(bench, count) {
  const path = join(bench.work, `add-${++bench.files}`);
  writeFileSync(path, addMany(count), { mode: 0o600 });
  return path;
}

export async function list(bench) {
  for (const size of LIST_SIZES) {
    const agents = bench.agents.filter((agent) => everywhere(agent) && !(agent.slowAdd && size > SLOW_ADD_KEYS));
    const started = await startAll(bench, agents, []);
    const file = addFile(bench, size);
    const words = (one) => ['list', '-s', one.socket, '-t', bench.seconds];
    for (const one of started) {
      await bench.load.run('replay', '-s', one.socket, '-k', file);
      await warm(bench, one, words(one));
    }
    await rounds(bench, `list/${size}`, started, (one) => bench.load.run(...words(one)));
    await stopAll(started);
  }
}

/** Connect, list four keys, close. */
export async function connect(bench) {
  const keys = [1, 2, 3, 4].map(() => makeKey('ed25519'));
  const started = await startAll(bench, bench.agents, keys);
  for (const one of started) await warm(bench, one, ['connect', '-s', one.socket, '-t', bench.seconds]);
  for (const connections of [1, 8])
    await rounds(bench, `connect/${connections}`, started, (one) =>
      bench.load.run('connect', '-s', one.socket, '-c', connections, '-t', bench.seconds),
    );
  await stopAll(started);
}

/** Ed25519 at a steady rate: alone, beside RSA-4096 without a pause, and beside that and a question to a person. */
export async function beside(bench) {
  const [key, rsa, asked] = [makeKey('ed25519'), makeKey('rsa4096'), makeKey('ed25519')];
  const [file, rsaFile, askedFile] = [key, rsa, asked].map((one) => blobFile(bench, one));
  const started = await startAll(bench, bench.agents.filter(everywhere), [key, rsa]);
  const asks = new Set();
  for (const one of started) {
    await ask(one.socket, addRequest(asked, 'asked for', true));
    const began = Date.now();
    const message = await ask(one.socket, signRequest(asked, Buffer.from('may I?')));
    if (message?.[0] === 14 && Date.now() - began > ANSWER_SECONDS * 900) asks.add(one);
    else
      bench.notes.push(
        `${one.agent.label} signs without asking or refuses keys to be asked for: no figure beside a question`,
      );
  }
  const seconds = ANSWER_SECONDS * 2;
  const sign = (one, what, flags, ...more) =>
    bench.load.run('sign', '-s', one.socket, '-k', what, '-f', flags, ...more);
  const measured = (one) => sign(one, file, 0, '-r', BESIDE_RATE, '-t', seconds);
  const with_ = (question) => async (one) => {
    const others = [sign(one, rsaFile, TYPES.rsa4096.flags, '-t', seconds + 0.5)];
    if (question) others.push(sign(one, askedFile, 0, '-t', seconds + 0.2));
    await pause(200);
    const figures = await measured(one);
    await Promise.all(others);
    return figures;
  };
  const count = Math.min(bench.rounds, 3);
  await rounds(bench, 'beside/nothing', started, (one) => sign(one, file, 0, '-r', BESIDE_RATE, '-t', 1), 1);
  await rounds(bench, 'beside/rsa', started, with_(false), count);
  const able = started.filter((one) => asks.has(one));
  await rounds(bench, 'beside/rsa+question', able, with_(true), count);
  await stopAll(started);
}

/** A Node that does nothing but listen. */
async function bareNode(bench) {
  const folder = newFolder(bench.work);
  const code = `require('net').createServer(() => {}).listen(${JSON.stringify(join(folder, 's'))})`;
  const child = spawn(process.execPath, ['-e', code], { env: plainEnvironment(folder), stdio: 'ignore' });
  await pause(REST_SETTLE);
  const figures = memory([child.pid]);
  child.kill();
  return figures;
}

/** Memory in KiB: at rest, with keys, with idle connections, after all is gone. */
export async function atRest(bench) {
  bench.results['memory/node'] = { node: await bareNode(bench) };
  for (const agent of bench.agents) {
    const point = {};
    const keys = agent.slowAdd ? SLOW_ADD_KEYS : MEMORY_KEYS;
    const idle = agent.idleConnections ?? IDLE_CONNECTIONS;
    const file = addFile(bench, keys);
    // Two of them, so that what came first does not weigh on the other figure: one holds keys, the other connections.
    const one = await start(agent, bench.work);
    const other = await start(agent, bench.work);
    await pause(REST_SETTLE);
    point.rest = memory(one.pids());
    const before = memory(other.pids());
    await bench.load.run('replay', '-s', one.socket, '-k', file);
    const release = await bench.load.hold(other.socket, idle);
    await pause(SETTLE);
    point.keys = memory(one.pids());
    point.perKey = (point.keys.rss - point.rest.rss) / keys;
    point.perKeyPrivate = (point.keys.private - point.rest.private) / keys;
    if (release === undefined) {
      bench.notes.push(`${agent.label} does not serve ${idle} connections at a time`);
    } else {
      const held = memory(other.pids());
      point.perConnection = (held.rss - before.rss) / idle;
      point.perConnectionPrivate = (held.private - before.private) / idle;
      await release();
    }
    await ask(one.socket, removeAllRequest());
    const left = await ask(one.socket, Buffer.from([0, 0, 0, 1, 11]));
    await pause(SETTLE);
    // gpg-agent says yes and keeps them.
    if (left?.readUInt32BE(1) === 0) point.removed = memory(one.pids());
    if (release !== undefined) point.closed = memory(other.pids());
    await one.stop();
    await other.stop();
    note(bench, 'memory', one, point);
    bench.say(`memory of ${agent.label}`);
  }
}

/** Milliseconds from the start of the agent until it answered a list. */
export async function startUp(bench) {
  const count = bench.quick ? 3 : 3 * bench.rounds;
  const all = new Map(bench.agents.filter(everywhere).map((agent) => [agent, []]));
  for (let i = 0; i < count; i++)
    for (const [agent, times] of all) {
      const { folder, words, socket, env } = prepare(agent, bench.work);
      times.push(bench.load.start(socket, words, env, folder));
      bench.sweep(folder);
    }
  for (const [agent, times] of all) note(bench, 'start', { agent }, { milliseconds: median(times) });
  bench.say('start');
}

/** Whole processes: wall and processor milliseconds, medians. */
export async function commands(bench) {
  const agent = bench.agents.find(({ id }) => id === 'latchkey');
  const one = await start(agent, bench.work);
  const folder = newFolder(bench.work);
  const key = join(folder, 'key');
  bench.generate(key);
  const env = plainEnvironment(folder, { SSH_AUTH_SOCK: one.socket });
  const ours = join(bench.build, 'bin/ssh-add');
  const programs = {
    'node -e 0': [process.execPath, '-e', '0'],
    'ssh-add -l': [ours, '-l'],
    'OpenSSH ssh-add -l': ['/usr/bin/ssh-add', '-l'],
    'ssh-add KEY': [ours, key],
    'OpenSSH ssh-add KEY': ['/usr/bin/ssh-add', key],
  };
  const runs = Object.fromEntries(Object.keys(programs).map((name) => [name, []]));
  bench.load.commands(1, programs['ssh-add KEY'], env);
  for (let i = 0; i < (bench.quick ? 5 : 7 * bench.rounds); i++)
    for (const [name, words] of Object.entries(programs)) runs[name].push(...bench.load.commands(1, words, env));
  bench.results.commands = {};
  for (const [name, list] of Object.entries(runs)) {
    const failed = list.filter(({ code }) => code !== 0).length;
    if (failed > 0) bench.notes.push(`${name} failed ${failed} times`);
    const of = (field) => median(list.map((run) => run[field]));
    bench.results.commands[name] = { wall: of('wall'), cpu: of('cpu'), maxKb: of('maxKb') };
  }
  await one.stop();
  bench.say('commands');
}

/** Cost of one signature and one list, in microseconds, against the number of keys and of connections. */
export async function growth(bench) {
  const agents = bench.agents.filter(({ id }) => GROWTH_AGENTS.includes(id));
  const key = makeKey('ed25519');
  const file = blobFile(bench, key);
  const seconds = Math.min(bench.seconds, 0.4);
  const cost = async (one, point, x, words) => {
    let figures;
    try {
      figures = await bench.load.run(...words, '-t', seconds);
    } catch (error) {
      bench.notes.push(`${point} ${x}, ${one.agent.label}: ${error.message}`);
    }
    bench.results[point] ??= {};
    bench.results[point][one.agent.id] ??= [];
    const good = figures !== undefined && figures.failures === 0 && figures.rate > 0;
    bench.results[point][one.agent.id].push({ x, microseconds: good ? 1e6 / figures.rate : null });
  };
  const started = await startAll(bench, agents, [key]);
  const signing = (one, connections) => ['sign', '-s', one.socket, '-k', file, '-c', connections];
  for (const one of started) await warm(bench, one, [...signing(one, 8), '-t', 1]);
  for (const count of GROWTH_CONNECTIONS)
    for (const one of started) {
      await cost(one, 'growth/connections/sign', count, signing(one, count));
      await cost(one, 'growth/idle/sign', count, [...signing(one, 1), '-i', count - 1]);
      await cost(one, 'growth/connections/list', count, ['list', '-s', one.socket, '-c', count]);
    }
  let held = 1;
  for (const count of GROWTH_KEYS) {
    const more = count > held ? addFile(bench, count - held) : undefined;
    for (const one of started) {
      if (more !== undefined) await bench.load.run('replay', '-s', one.socket, '-k', more);
      await cost(one, 'growth/keys/sign', count, signing(one, 8));
      await cost(one, 'growth/keys/list', count, ['list', '-s', one.socket]);
    }
    held = count;
  }
  await stopAll(started);
  bench.say('growth by keys and connections');
  await growthByRecords(bench, key, file, cost);
}

/** The same by records that are there already: ours alone writes some, a line for each signature that it gives. */
async function growthByRecords(bench, key, file, cost) {
  const agent = bench.agents.find(({ id }) => id === 'latchkey');
  if (agent === undefined) return;
  for (const count of bench.quick ? GROWTH_RECORDS.slice(0, 5) : GROWTH_RECORDS) {
    const began = Date.now();
    let filled = began;
    const one = await start(agent, bench.work, (home) => {
      fillRecords(home, count);
      filled = Date.now();
    });
    bench.results['growth/records/start'] ??= { latchkey: [] };
    bench.results['growth/records/start'].latchkey.push({ x: count, microseconds: (Date.now() - filled) * 1000 });
    await ask(one.socket, addRequest(key, 'key'));
    const sign = ['sign', '-s', one.socket, '-k', file, '-c', 8];
    await warm(bench, one, [...sign, '-t', bench.seconds]);
    await cost(one, 'growth/records/sign', count, sign);
    await cost(one, 'growth/records/list', count, ['list', '-s', one.socket]);
    await one.stop();
  }
  bench.say('growth by records');
}
