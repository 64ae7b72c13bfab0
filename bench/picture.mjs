// The picture of a run for the README: bars by hand, and lines for growth. Text and axes take their colours from the
// reader's scheme, so that it can be read on light and on dark ground.
import { ratios } from './report.mjs';

const WIDTH = 880;
const COLUMN = 428;
const BAR = 15;
const ROW = 21;
const LABEL = 104;
const HEAD = 30;

const PANELS = [
  { point: 'sign/ed25519/8', title: 'Ed25519 signatures a second, 8 connections' },
  { point: 'sign/ecdsa/8', title: 'ECDSA P-256 signatures a second, 8 connections' },
  { point: 'sign/rsa3072/8', title: 'RSA-3072 signatures a second, 8 connections' },
  { point: 'list/100', title: 'Lists of 100 keys a second' },
  { point: 'connect/1', title: 'Connect and list, a second' },
  {
    point: 'beside/rsa+question',
    title: 'Ed25519 p99 beside RSA and a question, ms: less is better',
    value: ({ p99 }) => p99 / 1000,
  },
];

const LINES = [
  { point: 'growth/keys/sign', title: 'One Ed25519 signature by number of keys, microseconds' },
  { point: 'growth/keys/list', title: 'One list by number of keys, microseconds' },
  { point: 'growth/connections/sign', title: 'One Ed25519 signature by busy connections, microseconds' },
  { point: 'growth/idle/sign', title: 'One Ed25519 signature by open connections, microseconds' },
  { point: 'growth/records/sign', title: 'One Ed25519 signature by records kept, microseconds' },
  { point: 'growth/records/list', title: 'One list by records kept, microseconds' },
];
const GRAPH = { height: 128, left: 46, right: 92 };

const STYLE = `text{font:12px system-ui,sans-serif;fill:#24292f}.t{font-weight:600}.s{fill:#656d76;font-size:11px}
.bg{fill:#fff}.b{fill:#b3bac3}.o{fill:#1f7a4d}.g{stroke:#d0d7de;stroke-width:1}.l{fill:none;stroke-width:2}
.latchkey{stroke:#1f7a4d}.openssh{stroke:#8250df}.go{stroke:#bf5b04}
@media(prefers-color-scheme:dark){.bg{fill:#0d1117}text{fill:#e6edf3}.s{fill:#9198a1}.b{fill:#57606a}.o{fill:#3fb97b}.g{stroke:#3d444d}
.latchkey{stroke:#3fb97b}.openssh{stroke:#b692f6}.go{stroke:#f0883e}}`;

const escaped = (text) => String(text).replaceAll('&', '&amp;').replaceAll('<', '&lt;');
const number = (value) =>
  value >= 1e6
    ? `${value / 1e6}M`
    : value >= 100
      ? Math.round(value).toLocaleString('en')
      : String(Number(value.toPrecision(3)));
const at = (value) => Number(value.toFixed(1));
const text = (x, y, words, more = '') => `<text x="${at(x)}" y="${at(y)}" ${more}>${escaped(words)}</text>`;

function bars({ point, title, value = ({ rate }) => rate }, { results, agents }, x, y) {
  const found = agents.flatMap(({ id, label }) => {
    const figures = results[point]?.[id];
    return figures === undefined ? [] : [{ id, label, value: value(figures) }];
  });
  const most = Math.max(...found.map((one) => one.value));
  const room = COLUMN - LABEL - 66;
  const parts = [text(x, y + 14, title, 'class="t"')];
  found.forEach((one, i) => {
    const top = y + HEAD + i * ROW - 6;
    const length = Math.max(1, (room * one.value) / most);
    parts.push(text(x + LABEL - 8, top + 12, one.label, 'text-anchor="end"'));
    const shape = `x="${x + LABEL}" y="${at(top)}" width="${at(length)}" height="${BAR}" rx="2"`;
    parts.push(`<rect class="${one.id === 'latchkey' ? 'o' : 'b'}" ${shape}/>`);
    parts.push(text(x + LABEL + length + 6, top + 12, number(one.value)));
  });
  return { svg: parts.join('\n'), height: found.length === 0 ? 0 : HEAD + found.length * ROW + 10 };
}

/** Both axes by powers of ten. */
function lines({ point, title }, { results, agents }, x, y) {
  const found = agents.flatMap(({ id, label }) => {
    const list = results[point]?.[id]?.filter(({ microseconds }) => microseconds !== null) ?? [];
    return list.length === 0 ? [] : [{ id, label, list }];
  });
  if (found.length === 0) return { svg: '', height: 0 };
  const all = found.flatMap(({ list }) => list);
  const powers = all.map(({ microseconds }) => Math.log10(microseconds));
  const [low, high] = [Math.floor(Math.min(...powers)), Math.ceil(Math.max(...powers))];
  const wide = Math.log10(Math.max(...all.map((one) => one.x)));
  const place = (one) => [
    x + GRAPH.left + ((COLUMN - GRAPH.left - GRAPH.right) * Math.log10(one.x)) / wide,
    y + HEAD + GRAPH.height * (1 - (Math.log10(one.microseconds) - low) / (high - low)),
  ];
  const parts = [text(x, y + 14, title, 'class="t"')];
  for (let power = low; power <= high; power++) {
    const [, top] = place({ x: 1, microseconds: 10 ** power });
    parts.push(`<path class="g" d="M${x + GRAPH.left} ${at(top)}H${x + COLUMN - GRAPH.right}"/>`);
    parts.push(text(x + GRAPH.left - 6, top + 4, number(10 ** power), 'class="s" text-anchor="end"'));
  }
  for (const value of new Set(all.map((one) => one.x))) {
    const [left] = place({ x: value, microseconds: 1 });
    parts.push(text(left, y + HEAD + GRAPH.height + 15, number(value), 'class="s" text-anchor="middle"'));
  }
  let above = Number.NEGATIVE_INFINITY;
  const byEnd = found.map((one) => ({ ...one, end: place(one.list.at(-1)) })).sort((a, b) => a.end[1] - b.end[1]);
  for (const { id, label, list, end } of byEnd) {
    const points = list.map((one) => place(one).map(at).join(' '));
    parts.push(`<path class="l ${id}" d="M${points.join('L')}"/>`);
    above = Math.max(end[1] + 4, above + 13);
    parts.push(text(end[0] + 6, above, label));
  }
  return { svg: parts.join('\n'), height: HEAD + GRAPH.height + 34 };
}

/** @returns the SVG of a run */
export function picture(outcome) {
  const parts = [];
  let y = 10;
  const grid = (panels, draw) => {
    for (let i = 0; i < panels.length; i += 2) {
      const drawn = panels.slice(i, i + 2).map((panel, k) => draw(panel, outcome, 8 + k * (COLUMN + 12), y));
      parts.push(...drawn.map(({ svg }) => svg));
      y += Math.max(...drawn.map(({ height }) => height));
    }
  };
  const there = ({ point }) => outcome.results[point] !== undefined;
  grid(PANELS.filter(there), bars);
  grid(LINES.filter(there), lines);
  const { machine, date } = outcome;
  const words = `${date.slice(0, 10)}, ${machine.cpus} cores of ${machine.model}, Node ${machine.node}, all in one run`;
  parts.push(text(8, y + 12, words, 'class="s"'));
  const gain = ratios(outcome.results)['sign/ed25519/8']?.openssh?.latchkey;
  const summary = gain === undefined ? 'Latchkey and other agents' : `Latchkey signs ${gain} times as fast as OpenSSH`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${at(y + 24)}" role="img" aria-label="${summary}">
<style>${STYLE}</style>
<rect class="bg" width="100%" height="100%"/>
${parts.filter((part) => part !== '').join('\n')}
</svg>
`;
}
