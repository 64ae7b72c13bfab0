/**
 * Every command of latchkey has each option of its usage, and no other, in the manual and in the completions of bash, fish
 * and zsh. All lists come from what the program prints: an option that is added there, and nowhere else, is a failure.
 */
import type { SpawnSyncReturns } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { bin, manualFlags, needs, read, run } from '../support/documents.ts';

/** Taken by the program, and explained in the manual, but not worth a place in the usage. */
const NATIVE_NOT_IN_USAGE: Readonly<Record<string, readonly string[]>> = { log: ['-f'] };
const NO_SUCH = '--no-such';

const native = (...args: readonly string[]): SpawnSyncReturns<string> => run(join(bin, 'latchkey'), args);
const commands = [...native('--help').stdout.matchAll(/^ {2}([a-z-]+) {2,}/gm)].map(([, name]) => name ?? '');
const usages = new Map(commands.map((command) => [command, native(command, '--help').stdout]));
const unique = (words: Iterable<string>): string[] => [...new Set(words)].sort();

/** The options of a command by its usage, `--` among them: those of its first lines, and those that it explains. */
function usageOptions(command: string): string[] {
  const lines = (usages.get(command) ?? '').split('\n');
  const explained = lines.filter((line) => line.startsWith('  -')).map((line) => line.trim().split(/ {2,}/)[0]);
  const text = [...lines.slice(0, lines.indexOf('')), ...explained].join('\n');
  const found = [...text.matchAll(/(?<![\w-])--?[a-z][a-z-]*|(?<=\[)--(?= )/g)].map(([option]) => option);
  return unique([...found, ...(NATIVE_NOT_IN_USAGE[command] ?? [])]);
}

/** A section or subsection of the manual, as its lines. */
function manualPart(heading: string): string[] {
  const [, part = ''] = read('man/latchkey.1').split(`\n${heading}\n`);
  return part.slice(0, part.search(/^\.S[hs] /m)).split('\n');
}

/** The lines that the manual has on a command, to the next command or heading. */
function manualOf(command: string): string[] {
  const lines = read('man/latchkey.1').split('\n');
  const start = lines.indexOf(`.It Cm ${command}`);
  const isNext = (line: string): boolean =>
    /^\.S[hs] /.test(line) || (line.startsWith('.It Cm ') && commands.includes(line.slice('.It Cm '.length)));
  const length = lines.slice(start + 1).findIndex(isNext);
  return start < 0 ? [] : lines.slice(start + 1, start + 1 + length);
}

const flagsIn = (lines: readonly string[]): string[] =>
  unique(lines.flatMap((line) => [...line.matchAll(/(?<= )Fl (\S+)|^\.Fl (\S+)/g)].map(([, a, b]) => `-${a ?? b}`)));

/** What zsh's completion hands to _arguments for a command: real expansion, without a terminal. */
function zshSpecs(command: string): string[] {
  const stub = `compdef() {}
    _arguments() { if [[ $* == *'->rest'* ]]; then state=rest line=($asked); else print -rl -- "$@"; fi }
    asked=${command} service=latchkey; . completions/_latchkey`;
  const { stdout, stderr } = run('zsh', ['-f', '-c', stub]);
  expect(stderr).toBe('');
  return stdout.trim().split('\n');
}

function bashOffers(...words: readonly string[]): string[] {
  const quoted = words.map((word) => `'${word}'`).join(' ');
  const script = `. completions/latchkey.bash; COMP_WORDS=(${quoted}); COMP_CWORD=${words.length - 1}; _latchkey; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr } = run('bash', ['--norc', '-c', script]);
  expect(stderr).toBe('');
  return stdout.trim().split('\n').sort();
}

function fishOffers(line: string): string[] {
  const { stdout } = run('fish', ['--no-config', '-c', `source completions/latchkey.fish; complete -C '${line}'`]);
  const offered = stdout.trim().split('\n');
  return offered.map((one) => one.split('\t')[0] ?? '').sort();
}

describe('latchkey', () => {
  it('has fifteen commands or more, each with a usage of its own', () => {
    expect(commands.length).toBeGreaterThanOrEqual(15);
    for (const [command, usage] of usages) expect(usage).toMatch(new RegExp(`^usage: latchkey ${command}\\b`));
  });

  it('has its own flags in its manual', () => {
    const own = [
      ...(native('--help')
        .stdout.split('\n\n')[0]
        ?.matchAll(/--[a-z]+/g) ?? []),
    ].map(([flag]) => flag);
    expect(unique(own)).toEqual(['--help', '--version']);
    expect(manualFlags('man/latchkey.1')).toEqual(expect.arrayContaining(own));
  });

  it('has all of its commands completed', needs('fish', 'zsh'), () => {
    const more = ['--help', '--version', '-V', '-h', 'help'];
    expect(bashOffers('latchkey', '')).toEqual(unique([...commands, ...more]));
    expect(fishOffers('latchkey ')).toEqual(unique([...commands, 'help']));
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell puts the array there.
    const stub = 'compdef() {}; _arguments() {}; _describe() { print -rl -- ${(P)2}; }; service=none';
    const { stdout } = run('zsh', ['-f', '-c', `${stub}; . completions/_latchkey; _latchkey_commands`]);
    const named = stdout.trim().split('\n');
    expect(named.map((line) => line.split(':')[0]).sort()).toEqual(unique([...commands, 'help']));
  });
});

describe.each(commands)('latchkey %s', (command) => {
  const options = usageOptions(command);
  // What a shell's completion has for -- is a command's own affair.
  const completed = unique([...options.filter((option) => option !== '--'), '--help']);

  it('takes each option of its usage, and no other', () => {
    expect(native(command, NO_SUCH).stderr).toMatch(/^latchkey \S+: unknown (word|option)/);
    for (const option of options.filter((one) => one !== '--')) {
      // The option's value, where it has one, and what ends the run before anything is done.
      const { stderr, status } = native(command, option, NO_SUCH, NO_SUCH);
      const [line = ''] = stderr.split('\n');
      expect([status, line.startsWith(`latchkey ${command}: `)], option).toEqual([1, true]);
      expect(line).not.toMatch(new RegExp(`unknown (word|option)(:| --) -{0,2}${option.replace(/^-+/, '')}$`));
    }
  });

  it("has these in its manual's synopsis", () => {
    const forms = manualPart('.Sh SYNOPSIS').join('\n').split('.Nm\n');
    const own = forms.filter((form) => form.startsWith(`.Cm ${command}\n`)).flatMap((form) => form.split('\n'));
    expect(flagsIn(own)).toEqual(options);
  });

  it('has each of them explained in its manual, and no other', () => {
    const explained = flagsIn(manualOf(command).filter((line) => line.startsWith('.It Fl ')));
    const shared = flagsIn(
      manualPart('.Ss Options that several commands have').filter((line) => line.startsWith('.It Fl ')),
    ).filter((flag) => flag.startsWith('--') && !['--help', '--version'].includes(flag));
    expect(shared).toEqual(['--json', '--socket']);
    const wanted = options.filter((option) => option !== '--' && !shared.includes(option));
    expect(explained).toEqual(wanted);
  });

  it('has each of them completed by bash, and no other', () => {
    const after = options.includes('--') ? ['--'] : [];
    expect(bashOffers('latchkey', command, '-')).toEqual(unique([...completed, ...after]));
  });

  it('has each of them completed by fish, and no other', needs('fish'), () => {
    expect(fishOffers(`latchkey ${command} -`)).toEqual(completed);
  });

  it('has each of them completed by zsh, and no other', needs('zsh'), () => {
    const found = zshSpecs(command).flatMap((spec) => /^(?:\([^)]*\))?\*?(--?[a-z][a-z-]*)\[/.exec(spec)?.[1] ?? []);
    expect(unique(found)).toEqual(completed);
  });
});

describe('values of options', () => {
  const lineOf = (command: string, option: string): string =>
    (usages.get(command) ?? '').split('\n').find((line) => line.startsWith(`  ${option} `)) ?? '';
  const cases = [
    { words: ['approve', 'q1', '--for'], values: /--for ([a-z|]+)/.exec(usages.get('approve') ?? '')?.[1]?.split('|') },
    { words: ['try', '--purpose'], values: lineOf('try', '--purpose').trim().split(/ {2,}/)[1]?.split(', ') },
    { words: ['try', '--table'], values: /--table ([a-z |]+)/.exec(usages.get('try') ?? '')?.[1]?.split(' | ') },
    // The usage names some; all are told to whoever gives another.
    { words: ['log', '--kind'], values: /one of (.*)/.exec(native('log', '--kind', 'x').stderr)?.[1]?.split(', ') },
  ];

  it.each(cases)('$words are completed, and in the manual', needs('fish', 'zsh'), ({ words, values = [] }) => {
    const [command = ''] = words;
    const option = words.at(-1) ?? '';
    const sorted = unique(values);
    expect(sorted.length).toBeGreaterThan(1);
    expect(bashOffers('latchkey', ...words, '')).toEqual(sorted);
    expect(fishOffers(`latchkey ${words.join(' ')} `)).toEqual(sorted);
    const spec = zshSpecs(command).find((one) => one.startsWith(`${option}[`)) ?? '';
    expect(unique(/\(([^()]*)\)$/.exec(spec)?.[1]?.split(' ') ?? [])).toEqual(sorted);
    const lines = manualOf(command);
    const item = lines.slice(lines.findIndex((line) => line.startsWith(`.It Fl ${option.slice(1)} `)) + 1);
    const end = item.findIndex((line) => line.startsWith('.It ') || line === '.El');
    const named = new Set(
      item
        .slice(0, end)
        .filter((line) => line.startsWith('.Cm '))
        .flatMap((line) => line.slice('.Cm '.length).split(' '))
        .filter((word) => /\w/.test(word)),
    );
    expect(unique(named)).toEqual(sorted);
  });
});
