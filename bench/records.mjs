// Records as an agent that has been used for long finds them (docs/records.md): files of chained JSON lines under
// $XDG_STATE_HOME/latchkey/records, written by hand, since the benchmark leans on none of our code.
import { createHash } from 'node:crypto';
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** Lines of one file. */
const LINES = 50_000;
const FIRST_DAY = Date.UTC(2026, 0, 1);

const stamp = (milliseconds) => new Date(milliseconds).toISOString();

function line(number, previous) {
  const record = {
    id: `bench${number.toString(36)}`,
    time: stamp(FIRST_DAY + number * 1000),
    kind: 'sign',
    outcome: 'allowed',
    sentence: `sign a login as user${number % 7} on host${number % 31}.example.org`,
    key: { fingerprint: `SHA256:${'k'.repeat(43)}`, type: 'ssh-ed25519', comment: 'key' },
    forwarded: false,
    previous,
  };
  const text = JSON.stringify(record);
  const hash = createHash('sha256').update(text).digest('hex');
  return { text: `${text.slice(0, -1)},"hash":"${hash}"}\n`, hash };
}

/** Writes `count` records for an agent whose home is `home`. */
export function fillRecords(home, count) {
  const folder = join(home, '.local/state/latchkey/records');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  for (let from = 0, file = 1; from < count; from += LINES, file++) {
    const name = `${stamp(FIRST_DAY + from * 1000).replaceAll(/[-:]/g, '')}-1-${file}.jsonl`;
    const fd = openSync(join(folder, name), 'wx', 0o600);
    let previous = null;
    let lines = [];
    for (let i = from; i < Math.min(count, from + LINES); i++) {
      const made = line(i, previous);
      previous = made.hash;
      lines.push(made.text);
      if (lines.length === 1000) {
        writeSync(fd, lines.join(''));
        lines = [];
      }
    }
    writeSync(fd, lines.join(''));
    closeSync(fd);
  }
}
