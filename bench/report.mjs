// Figures as words: the goals with what was reached, and the tables that a run prints.
import { TYPES } from './keys.mjs';
import { CONNECTIONS, IDLE_CONNECTIONS, LIST_SIZES, MEMORY_KEYS } from './phases.mjs';

const OPENSSH_KEY_KB = 16.5;

/**
 * The goals of the project, each with its figure in this run. `least` or `most` is the bound on `value`.
 * @returns {{ goal: string, value: number | undefined, least?: number, most?: number, reached: boolean | undefined }[]}
 */
export function goals(results) {
  const figure = (point, agent, field = 'rate') => results[point]?.[agent]?.[field];
  const ratio = (over, under) => (over === undefined || under === undefined ? undefined : over / under);
  const against = (point, other, field) => ratio(figure(point, 'latchkey', field), figure(point, other, field));
  const ours = results.memory?.latchkey;
  const bare = results['memory/node']?.node;
  const list = [
    { goal: 'Ed25519, 8 connections, against OpenSSH', value: against('sign/ed25519/8', 'openssh'), least: 6 },
    { goal: "Ed25519, 8 connections, against Go's keyring", value: against('sign/ed25519/8', 'go'), least: 1 },
    { goal: 'ECDSA P-256, 8 connections, against OpenSSH', value: against('sign/ecdsa/8', 'openssh'), least: 3.5 },
    { goal: "ECDSA P-256, 8 connections, against Go's keyring", value: against('sign/ecdsa/8', 'go'), least: 0.9 },
    { goal: 'RSA-3072, 8 connections, against OpenSSH', value: against('sign/rsa3072/8', 'openssh'), least: 2 },
    {
      goal: 'RSA-3072, 8 connections, against openssl speed -multi 2',
      value: against('sign/rsa3072/8', 'openssl'),
      least: 0.85,
    },
    { goal: 'list of 100 keys, against OpenSSH', value: against('list/100', 'openssh'), least: 2 },
    { goal: 'connect and list, against OpenSSH', value: against('connect/1', 'openssh'), least: 3 },
    {
      goal: 'p99 of Ed25519 beside RSA-4096 and a question, against OpenSSH',
      value: against('beside/rsa+question', 'openssh', 'p99'),
      most: 0.1,
    },
    { goal: 'memory for each further key, KB', value: ours?.perKey, most: OPENSSH_KEY_KB / 8 },
    { goal: 'memory for each idle connection, KB', value: ours?.perConnection, most: 8 },
    { goal: 'resident at rest, against a bare node that listens', value: ratio(ours?.rest.rss, bare?.rss), most: 1.15 },
    {
      goal: 'private at rest, against a bare node that listens',
      value: ratio(ours?.rest.private, bare?.private),
      most: 1.15,
    },
    {
      goal: 'ssh-add -l, whole process, against node -e 0',
      value: ratio(results.commands?.['ssh-add -l'].wall, results.commands?.['node -e 0'].wall),
      most: 1.25,
    },
  ];
  for (const one of list)
    one.reached =
      one.value === undefined ? undefined : one.least === undefined ? one.value <= one.most : one.value >= one.least;
  return list;
}

/** Of each point: what each agent does for one of OpenSSH's and of Go's. */
export function ratios(results) {
  const found = {};
  for (const [point, agents] of Object.entries(results)) {
    if (!/^(sign|list|connect|beside)\//.test(point)) continue;
    const field = point.startsWith('beside/') ? 'p99' : 'rate';
    found[point] = {};
    for (const other of ['openssh', 'go']) {
      const under = agents[other]?.[field];
      if (under === undefined) continue;
      const of = Object.entries(agents).map(([id, figures]) => [id, round(figures[field] / under)]);
      found[point][other] = Object.fromEntries(of);
    }
  }
  return found;
}

export const round = (value) => Number(value.toPrecision(4));

const short = (value) => {
  if (value === undefined || Number.isNaN(value)) return '-';
  if (value >= 100) return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ',');
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
};

function table(title, columns, rows) {
  const lines = [columns, ...rows];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i].length)));
  const text = lines.map((line) =>
    line
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
      .join('  ')
      .trimEnd(),
  );
  return [title, ...text.map((line) => `  ${line}`), ''].join('\n');
}

/** All tables of a run as text. */
export function tables({ results, agents }) {
  const parts = [];
  const there = agents.filter(({ id }) => Object.values(results).some((point) => point[id] !== undefined));
  const labels = there.map(({ label }) => label);
  const point = (name, words) => {
    if (results[name] === undefined) return undefined;
    return (columns) => [words, ...columns(results[name])];
  };
  const section = (title, names, cells, extra = []) => {
    const rows = names.map(([name, words]) =>
      point(name, words)?.((at) => [...there, ...extra].map(({ id }) => cells(at[id]))),
    );
    const found = rows.filter((row) => row !== undefined);
    if (found.length > 0) parts.push(table(title, ['', ...labels, ...extra.map(({ label }) => label)], found));
  };
  const signs = Object.entries(TYPES).flatMap(([type, { label }]) =>
    CONNECTIONS.map((connections) => [`sign/${type}/${connections}`, `${label}, ${connections}`]),
  );
  const latency = (at) => (at === undefined ? '-' : [at.p50, at.p99, at.max].map((us) => short(us / 1000)).join(' / '));
  section('Signatures a second, by connections', signs, (at) => short(at?.rate), [
    { id: 'openssl', label: 'openssl speed' },
  ]);
  section('Their latency, ms: p50 / p99 / max', signs, latency);
  const lists = LIST_SIZES.map((size) => [`list/${size}`, `list of ${size}`]);
  lists.push(['connect/1', 'connect + list, 1 at a time'], ['connect/8', 'connect + list, 8 at a time']);
  section('Lists a second', lists, (at) => short(at?.rate));
  section(
    'Ed25519 at 100 a second, latency in ms: p50 / p99 / max',
    [
      ['beside/nothing', 'alone'],
      ['beside/rsa', 'beside RSA-4096'],
      ['beside/rsa+question', '... and a question'],
    ],
    latency,
  );
  if (results.memory !== undefined) {
    const bare = results['memory/node'].node;
    const rows = [['bare node', short(bare.rss / 1024), short(bare.private / 1024), ...'-----'.split('')]];
    for (const { id, label } of there) {
      const at = results.memory[id];
      if (at === undefined) continue;
      const mb = (pair) => short(pair === undefined ? undefined : pair.rss / 1024);
      const row = [mb(at.rest), short(at.rest.private / 1024), short(at.perKey), short(at.perKeyPrivate)];
      rows.push([label, ...row, mb(at.removed), short(at.perConnection), mb(at.closed)]);
    }
    const title = `Memory at rest, MB; for each key (of ${MEMORY_KEYS}) and idle connection (of ${IDLE_CONNECTIONS}), KB`;
    parts.push(
      table(title, ['', 'resident', 'private', 'key', 'its private', 'removed', 'connection', 'closed'], rows),
    );
  }
  section('Start until it answers, ms', [['start', '']], (at) => short(at?.milliseconds));
  if (results.commands !== undefined) {
    const rows = Object.entries(results.commands).map(([name, { wall, cpu, maxKb }]) => [
      name,
      ...[wall, cpu, maxKb / 1024].map(short),
    ]);
    parts.push(table('Whole processes, medians', ['', 'wall ms', 'cpu ms', 'MB'], rows));
  }
  for (const [name, words] of GROWTHS) {
    const at = results[name];
    if (at === undefined) continue;
    const ids = there.filter(({ id }) => at[id] !== undefined);
    const rows = at[ids[0].id].map(({ x }, i) => [
      short(x).replace('.00', '').replace('.0', ''),
      ...ids.map(({ id }) => short(at[id][i].microseconds ?? undefined)),
    ]);
    parts.push(table(words, ['', ...ids.map(({ label }) => label)], rows));
  }
  const ceiling = results['ceiling/list'];
  if (ceiling !== undefined) {
    const rate = (name) => short(results[`ceiling/${name}`]?.ceiling?.rate);
    const signs = CONNECTIONS.map((connections) => `${rate(`sign/${connections}`)} on ${connections}`).join(', ');
    parts.push(
      `The load generator's own ceiling: signatures ${signs}; lists ${rate('list')}; connections ${rate('connect')}\n`,
    );
  }
  const list = goals(results).filter(({ value }) => value !== undefined);
  if (list.length > 0) {
    const rows = list.map(({ goal, value, least, most, reached }) => [
      goal,
      value.toFixed(2),
      least === undefined ? `at most ${round(most)}` : `at least ${least}`,
      reached ? 'reached' : 'NOT reached',
    ]);
    parts.push(table('Goals', ['', 'here', 'goal', ''], rows));
  }
  return parts.join('\n');
}

export const GROWTHS = [
  ['growth/keys/sign', 'One Ed25519 signature by number of keys, microseconds (8 connections at work)'],
  ['growth/keys/list', 'One list by number of keys, microseconds'],
  ['growth/connections/sign', 'One Ed25519 signature by connections at work, microseconds'],
  ['growth/connections/list', 'One list by connections at work, microseconds'],
  ['growth/idle/sign', 'One Ed25519 signature on one connection by connections open, microseconds'],
  ['growth/records/sign', 'One Ed25519 signature by records that are kept, microseconds (8 connections at work)'],
  ['growth/records/list', 'One list by records that are kept, microseconds'],
  ['growth/records/start', 'Start until it answers by records that are kept, microseconds'],
];
