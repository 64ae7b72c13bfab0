/**
 * What the documentation claims: every flag is where it has to be, and other programs can read what is written for them.
 * The commands of latchkey are in nativedocs.test.ts.
 */
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ASSOCIATED_CERTIFICATES, RESTRICT_DESTINATION, SK_PROVIDER } from '../../src/wire/constraints.ts';
import { QUERY, SESSION_BIND } from '../../src/wire/extensions.ts';
import { REQUEST_NUMBERS } from '../../src/wire/requests.ts';
import { bin, manualFlags, needs, read, root, run } from '../support/documents.ts';

/** Flags as they are typed, of a getopt string and of long names. */
function flagsOf(source: string, letters: RegExp, longNames: RegExp): string[] {
  const text = read(source);
  const short = [...(letters.exec(text)?.[1] ?? '').replaceAll(':', '')].map((letter) => `-${letter}`);
  const long = [...(longNames.exec(text)?.[1] ?? '').matchAll(/'([a-z-]+)'/g)].map(([, name]) => `--${name}`);
  expect(short.length * long.length, source).toBeGreaterThan(1);
  return [...short, ...long].sort();
}

const programs = [
  {
    name: 'ssh-agent',
    installed: 'latchkey-agent',
    completion: '_latchkey_agent',
    flags: flagsOf('src/cli/ssh-agent.ts', /LETTERS = '([^']+)'/, /getopt\(argv, LETTERS, \[([^\]]+)\]/),
    notInUsage: [] as readonly string[],
  },
  {
    name: 'ssh-add',
    installed: 'latchkey-add',
    completion: '_latchkey_add',
    flags: flagsOf('src/cli/ssh-add-options.ts', /LETTERS = '([^']+)'/, /LONG_NAMES = \[([^\]]+)\]/),
    // Ignored, and not in OpenSSH's usage either.
    notInUsage: ['-M', '-m'],
  },
];

/** The rows of the table of flags below a heading, as their first cells. */
function tableFlags(heading: string): string[] {
  const section = read('docs/compatibility.md').split(`\n## ${heading}\n`)[1] ?? '';
  const table = section.split('\n\n').find((block) => block.startsWith('\n| flag') || block.startsWith('| flag')) ?? '';
  const cells = table.split('\n').map((line) => line.split(' | ')[0] ?? '');
  return [...new Set(cells.join('\n').match(/(?<=`)--?[A-Za-z][a-z-]*/g) ?? [])];
}

describe.each(programs)('$name', ({ name, installed, completion, flags, notInUsage }) => {
  it('has each of its flags in its manual, and the manual no other', () => {
    expect(manualFlags(`man/${name}.1`)).toEqual(flags);
  });

  it('has each of its letters in its usage', () => {
    const { stdout } = run(join(bin, name), ['--help']);
    const usage = stdout.slice(0, stdout.search(/\n\n/));
    const named = new Set([...usage.matchAll(/(?<![\w-])-([A-Za-z]+)/g)].flatMap(([, all]) => [...(all ?? '')]));
    const letters = flags.filter((flag) => !flag.startsWith('--') && !notInUsage.includes(flag));
    // What shows a version and ends is not worth a place in OpenSSH's usage of ssh-add.
    expect([...named].map((letter) => `-${letter}`).sort()).toEqual(letters);
  });

  it('has each of its flags in docs/compatibility.md', () => {
    const rows = tableFlags(name);
    expect(flags.filter((flag) => !rows.includes(flag))).toEqual([]);
  });

  it('has each of its flags completed by bash', () => {
    const script = `. completions/latchkey.bash; COMP_WORDS=(x -); COMP_CWORD=1; ${completion}; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout, stderr } = run('bash', ['--norc', '-c', script]);
    expect(stderr).toBe('');
    expect(stdout.trim().split('\n').sort()).toEqual(flags);
  });

  it('has each of its flags completed by fish', needs('fish'), () => {
    const script = `source completions/latchkey.fish; complete -C '${installed} -'`;
    const { stdout } = run('fish', ['--no-config', '-c', script]);
    const offered = stdout.trim().split('\n');
    expect(offered.map((line) => line.split('\t')[0]).sort()).toEqual(flags);
  });

  it('has each of its flags completed by zsh', () => {
    const [, body = ''] = read('completions/_latchkey').split(`\n${completion}() {`);
    const own = body.slice(0, body.indexOf('\n}'));
    const single = [...own.matchAll(/(--?[A-Za-z][a-z-]*)\[/g)].map(([, flag]) => flag ?? '');
    const grouped = [...own.matchAll(/\{(-[^}]+)\}'\[/g)].flatMap(([, all]) => (all ?? '').split(','));
    expect([...single, ...grouped].sort()).toEqual(flags);
  });

  it('has one manual under both of its names', () => {
    expect(read(`man/${installed}.1`)).toBe(read(`man/${name}.1`));
  });
});

describe('manuals', () => {
  it.each(readdirSync(join(root, 'man')))('%s is without fault for mandoc', needs('mandoc'), (name) => {
    const { stdout, status } = run('mandoc', ['-Tlint', '-Wwarning', join('man', name)]);
    expect([stdout, status]).toEqual(['', 0]);
  });

  it('are installed under names that hide no other program', () => {
    const manifest = JSON.parse(read('package.json')) as {
      bin: object;
      man: readonly string[];
      files: readonly string[];
    };
    expect(manifest.man).toEqual(Object.keys(manifest.bin).map((name) => `man/${name}.1`));
    expect(manifest.files).toEqual(expect.arrayContaining(['man', 'completions', 'contrib']));
  });
});

describe('completions', () => {
  for (const [shell, flag, file] of [
    ['bash', '-n', 'latchkey.bash'],
    ['zsh', '-n', '_latchkey'],
    ['fish', '--no-execute', 'latchkey.fish'],
  ] as const)
    it(`${shell} can read its own`, needs(shell), () => {
      const { stderr, status } = run(shell, [flag, join('completions', file)]);
      expect([stderr, status]).toEqual(['', 0]);
    });
});

describe('contrib', () => {
  it('has units in which systemd finds no fault', needs('systemd-analyze'), () => {
    for (const unit of ['latchkey.socket', 'latchkey.service']) {
      const { stderr, status } = run(
        'systemd-analyze',
        ['--user', '--man=no', 'verify', `./${unit}`],
        join(root, 'contrib'),
      );
      expect([unit, stderr, status]).toEqual([unit, '', 0]);
    }
  });

  it('has a property list and a snippet that can be read, and a README that names each file', () => {
    const plist = run('python3', ['-c', 'import plistlib; plistlib.load(open("contrib/latchkey.plist", "rb"))']);
    expect([plist.stderr, plist.status]).toEqual(['', 0]);
    expect(run('sh', ['-n', 'contrib/xsession']).status).toBe(0);
    const text = read('contrib/README.md');
    for (const name of readdirSync(join(root, 'contrib'))) if (name !== 'README.md') expect(text).toContain(name);
  });
});

describe('docs/compatibility.md', () => {
  const text = read('docs/compatibility.md');
  const rows = text.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| ---'));

  it('says same, better or not in each row, and how or why not', () => {
    const faults = text.split("## OpenSSH's own faults")[1] ?? '';
    for (const row of rows) {
      const cells = row
        .slice(2, -1)
        .split(' | ')
        .map((cell) => cell.trim());
      if (faults.includes(row) || cells[1] === 'is') continue;
      expect(cells[1], row).toMatch(/^(same|better|not)$/);
      if (cells[1] !== 'same') expect(cells[2] ?? '', row).not.toBe('');
    }
  });

  it('has every message number, constraint and extension', () => {
    const [, messages = ''] = text.split('\n## Messages\n');
    const firstCells = messages
      .split('\n')
      .map((line) => line.split(' | ')[0] ?? '')
      .join('\n');
    const numbers = Object.values(REQUEST_NUMBERS);
    expect(numbers.filter((number) => !new RegExp(`\\b${number}\\b`).test(firstCells))).toEqual([]);
    for (const name of [SESSION_BIND, QUERY, RESTRICT_DESTINATION, SK_PROVIDER, ASSOCIATED_CERTIFICATES])
      expect(firstCells).toContain(`\`${name}\``);
  });

  it('has every environment variable that the manuals name', () => {
    const variables = ['ssh-agent', 'ssh-add'].flatMap((name) =>
      [...read(`man/${name}.1`).matchAll(/^\.(?:It )?Ev (.+)$/gm)].flatMap(
        ([, all]) => (all ?? '').match(/[A-Z][A-Z0-9_]+/g) ?? [],
      ),
    );
    expect(variables.length).toBeGreaterThan(10);
    expect(variables.filter((name) => !new RegExp(`\`${name}[\`=]`).test(text))).toEqual([]);
  });

  it("answers each of OpenSSH's twenty faults", () => {
    const answers = rows.filter((row) => /^\| \d+ \|/.test(row)).map((row) => row.slice(2, -2).split(' | '));
    expect(answers.map(([number]) => Number(number))).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    for (const [number, , answer] of answers) expect(answer, number).toMatch(/^(better: |same|not yet: )/);
  });
});

describe('links', () => {
  const pages = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'contrib/README.md'];
  for (const name of readdirSync(join(root, 'docs'), { recursive: true }))
    if (String(name).endsWith('.md')) pages.push(join('docs', String(name)));

  it.each(pages)('of %s lead to files that are there', (page) => {
    const links = [...read(page).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)].map(([, link]) => link ?? '');
    expect(links.filter((link) => !existsSync(resolve(root, dirname(page), link)))).toEqual([]);
  });
});
