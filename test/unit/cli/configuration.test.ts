import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Configuration,
  type ConfigurationWatch,
  loadConfiguration,
  watchConfiguration,
} from '../../../src/cli/configuration.ts';
import { parseConfiguration } from '../../../src/cli/configurationschema.ts';
import {
  defaultConfiguration,
  MAX_FILE_BYTES,
  MAX_PATTERN_CHARACTERS,
  MAX_PATTERNS,
  MAX_RULES,
} from '../../../src/cli/settings.ts';
import { closest } from '../../../src/cli/spelling.ts';
import { tomlLines } from '../../../src/cli/tomllines.ts';
import { letters } from '../wire/build.ts';

const folder = mkdtempSync(join(tmpdir(), 'latchkey-configuration-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const print = `SHA256:${letters(43)}`;

function read(content: string): Configuration {
  const result = parseConfiguration(content, 'config.toml');
  if ('errors' in result) throw new Error(result.errors.map(({ text }) => text).join('\n'));
  return result.configuration;
}

function errors(content: string): readonly string[] {
  const result = parseConfiguration(content, 'config.toml');
  if (!('errors' in result)) return [];
  for (const { line, text } of result.errors) expect(text).toMatch(new RegExp(`^config\\.toml:${line}: `));
  return result.errors.map(({ text }) => text.slice('config.toml:'.length));
}

describe('a configuration', () => {
  it('that says nothing is the defaults', () => {
    for (const content of ['', '# nothing\n', '[agent]\n[records]\n[ask]\n', 'rule = []'])
      expect(read(content)).toEqual(defaultConfiguration);
    expect(defaultConfiguration.settings.ask.seconds).toBe(90);
    expect(defaultConfiguration.settings.records.unwritable).toBeUndefined();
    expect(defaultConfiguration.settings.agent.guarded).toBe(false);
  });

  it('sets what it says and leaves the rest', () => {
    const { settings } = read(
      '[agent]\nguarded = true\n[records]\nmax_files = 3\n[ask]\nways = ["pinentry"]\nseconds = 5',
    );
    expect(settings.agent).toEqual({ guarded: true });
    expect(settings.records).toEqual({ ...defaultConfiguration.settings.records, maxFiles: 3 });
    expect(settings.ask).toEqual({ ways: ['pinentry'], seconds: 5, lasts: 'once' });
    expect(read('[ask]\nways = []').settings.ask.ways).toEqual([]);
  });

  it('has its rules in order, with names, lines and lists', () => {
    const { rules } = read(`
[[rule]]
name = "work"
effect = "allow"
key = ["${print}", "!me@*"]
host = "github.com"
user = "git"
program = "/usr/bin/git"
origin = "local"

[[rule]]
effect = "ask"
lasts = "command"
via = ["bastion", "[gate]:2222"]
namespace = "git"
purpose = ["sshsig", "blind-login"]
`);
    expect(rules).toEqual([
      {
        ...{ name: 'work', line: 2, effect: 'allow', lasts: 'once', key: [print, '!me@*'], host: ['github.com'] },
        ...{ user: ['git'], program: ['/usr/bin/git'], origin: ['local'] },
      },
      {
        ...{ name: 'rule 2', line: 11, effect: 'ask', lasts: 'command', via: ['bastion', '[gate]:2222'] },
        ...{ namespace: ['git'], purpose: ['sshsig', 'blind-login'] },
      },
    ]);
    for (const one of rules) expect([one, ...Object.values(one)].every(Object.isFrozen)).toBe(true);
  });

  it('says what a plain yes means, for all questions or one rule', () => {
    const content = '[ask]\nlasts = "destination"\n[[rule]]\neffect = "ask"\n[[rule]]\neffect = "ask"\nlasts = "once"';
    expect(read(content).rules.map(({ lasts }) => lasts)).toEqual(['destination', 'once']);
  });
});

describe('what is wrong', () => {
  it('is told with its line, all of it at once', () => {
    const content = `# [[rule]]
[agent]
guraded = true
[records]
unwritable = "refuze"
max_bytes = 5

[[rule]]
name = """
[[rule]]
effect = "deny" """
effect = "alow"

[[rule]]
hots = "web"
toString = 1
effect = "ask"
lasts = "always"

[[rule]]
effect = "allow"
lasts = "once"
host = [
  "web",
  "git@github.com",
  7,
]
`;
    const known = 'name, effect, lasts, key, host, user, via, program, namespace, purpose, origin';
    expect(errors(content)).toEqual([
      '3: [agent] unknown key guraded: did you mean guarded?',
      '5: [records] unwritable: must be "refuse" or "warn": did you mean "refuse"?',
      '6: [records] max_bytes: must be a whole number from 65536 to 1073741824',
      '9: [rule 1] name: holds a control character or is no text',
      '12: [rule 1] effect: must be "allow", "deny" or "ask": did you mean "allow"?',
      '15: [rule 2] unknown key hots: did you mean host?',
      `16: [rule 2] unknown key toString: known are ${known}`,
      '18: [rule 2] lasts: must be "once", "command", "destination" or "path"',
      '25: [rule 3] host: "git@github.com" names a user: a line of its own does that, user = ...',
      '26: [rule 3] host: must be a pattern, in quotes',
    ]);
  });

  it.each([
    ['a = \n', '1: not TOML: invalid value (column 5)'],
    ['[ask]\nseconds = 1\nseconds = 2', /^3: not TOML: .*redefine/],
    ['[agents]\n', '1: unknown key agents: did you mean agent?'],
    ['[[ask]]\nseconds = 3', '1: [ask] must be a section, in brackets'],
    ['agent = true', '1: [agent] must be a section, in brackets'],
    ['[rule]\neffect = "deny"', '1: [rule] must be a list: write [[rule]], in double brackets, over each'],
    ['[[rule]]\nname = "x"', '1: [rule 1] effect: is missing: say "allow", "deny" or "ask"'],
    ['[[rule]]\neffect = "allow"\nlasts = "once"', '3: [rule 1] lasts: has a meaning only where effect = "ask"'],
    ['[ask]\nseconds = 91', '2: [ask] seconds: must be a whole number from 1 to 90'],
    ['[ask]\nseconds = 1.5', '2: [ask] seconds: must be a whole number from 1 to 90'],
    ['[ask]\nseconds = "5"', '2: [ask] seconds: must be a whole number from 1 to 90'],
    ['[ask]\nways = "askpass"', '2: [ask] ways: must be a list of "askpass", "pinentry" or "notification" in brackets'],
    ['[agent]\nguarded = "yes"', '2: [agent] guarded: must be true or false'],
    ['[[rule]]\neffect = "deny"\nkey = "SHA256:abc"', /^3: \[rule 1\] key: "SHA256:abc" is no fingerprint/],
    ['[[rule]]\neffect = "deny"\nkey = "!MD5:ab:cd"', /^3: \[rule 1\] key: "MD5:ab:cd" is no fingerprint/],
    ['[[rule]]\neffect = "deny"\nhost = "web:22"', /^3: .*known_hosts writes that "\[web\]:22"$/],
    ['[[rule]]\neffect = "deny"\nvia = "a,b"', '3: [rule 1] via: "a,b" is no name of a host'],
    ['[[rule]]\neffect = "deny"\nprogram = "bin/git"', /^3: \[rule 1\] program: "bin\/git" matches no program/],
    ['[[rule]]\neffect = "deny"\nuser = []', /^3: \[rule 1\] user: must not be an empty list/],
    ['[[rule]]\neffect = "deny"\nuser = ""', '3: [rule 1] user: must not be empty'],
    ['[[rule]]\neffect = "deny"\nuser = "!"', '3: [rule 1] user: has nothing after the "!"'],
    ['[[rule]]\neffect = "deny"\nuser = "a\\u0007"', '3: [rule 1] user: holds a control character or is no text'],
    ['[[rule]]\neffect = "deny"\nuser = "\\uFFFD"', '3: [rule 1] user: holds a control character or is no text'],
    [
      '[[rule]]\neffect = "deny"\npurpose = "login-blind"',
      /^3: \[rule 1\] purpose: must be "login", .* or "unidentified"$/,
    ],
    ['[[rule]]\neffect = "deny"\norigin = "remote"', '3: [rule 1] origin: must be "local", "forwarded" or "guard"'],
    ['"\\u001b[2J" = 1', '1: unknown key \\u001b[2J: known are agent, records, ask, rule'],
    ['__proto__ = 1', /^1: unknown key __proto__: /],
  ])('in %j is said', (content, expected) => {
    expect(errors(content)).toEqual([typeof expected === 'string' ? expected : expect.stringMatching(expected)]);
  });

  it('is too much of anything', () => {
    const rules = (count: number): string => '[[rule]]\neffect = "deny"\n'.repeat(count);
    const users = (list: readonly string[]): string => `[[rule]]\neffect = "deny"\nuser = ${JSON.stringify(list)}`;
    expect(read(rules(MAX_RULES)).rules).toHaveLength(MAX_RULES);
    expect(errors(rules(MAX_RULES + 1))).toEqual([`1: [rule] more than ${MAX_RULES} rules`]);
    const list = Array.from({ length: MAX_PATTERNS }, (_, i) => `user${i}`);
    expect(read(users(list)).rules[0]?.user).toHaveLength(MAX_PATTERNS);
    expect(errors(users([...list, 'one more']))).toEqual([`3: [rule 1] user: has more than ${MAX_PATTERNS} items`]);
    expect(read(users([letters(MAX_PATTERN_CHARACTERS)])).rules).toHaveLength(1);
    expect(errors(users([letters(MAX_PATTERN_CHARACTERS + 1)]))).toEqual([
      `3: [rule 1] user: is longer than ${MAX_PATTERN_CHARACTERS} characters`,
    ]);
  });
});

describe('lines of keys', () => {
  it('are found past strings, comments, nested values and dotted keys', () => {
    const { lineOf } = tomlLines(`a.b = 1 # x = 2
"c d" = '''
e = 5
''' # [f]
g = { h = [1,
  2, { i = "]" }], j = "#" }
[k.l]
m = [ # [
  "x",

  "y" ]
[[k.n]]
o = 1
[[k.n]]
[k.n.p]
q = "\\"r = 1"\r
s = 1979-05-27 07:32:00
`);
    const lines: readonly (readonly [readonly (string | number)[], number])[] = [
      [['a'], 1],
      [['a', 'b'], 1],
      [['c d'], 2],
      [['g'], 5],
      [['g', 'h', 0], 5],
      [['g', 'h', 1], 6],
      [['g', 'h', 2, 'i'], 6],
      [['g', 'j'], 6],
      [['k'], 7],
      [['k', 'l', 'm'], 8],
      [['k', 'l', 'm', 0], 9],
      [['k', 'l', 'm', 1], 11],
      [['k', 'n', 0, 'o'], 13],
      [['k', 'n', 1], 14],
      [['k', 'n', 1, 'p', 'q'], 16],
      [['k', 'n', 1, 'p', 's'], 17],
      [['k', 'n', 1, 'p', 'unheard of'], 15],
      [['e'], 1],
    ];
    for (const [path, line] of lines) expect([path, lineOf(path)]).toEqual([path, line]);
  });

  it('come to an end in what is no TOML', () => {
    for (const content of ['[', ']', '= =', 'a = [', 'a = {b', '"', '"""', '[[', ',,', 'a = [[[}', '\0'])
      expect(tomlLines(content).lineOf(['x'])).toBe(1);
  });
});

describe('a word that was mistyped', () => {
  it.each([
    ['effcet', 'effect'],
    ['hosts', 'host'],
    ['HOST', 'host'],
    ['xyz', undefined],
    ['a', undefined],
    [letters(65), undefined],
  ])('%s is taken for %s', (word, expected) => {
    expect(closest(word, ['host', 'user', 'effect'])).toBe(expected);
  });
});

describe('a file', () => {
  const path = join(folder, 'config.toml');
  const texts = async (of = path): Promise<readonly string[]> => {
    const loaded = await loadConfiguration(of);
    return 'errors' in loaded ? loaded.errors.map(({ text }) => text) : ['none'];
  };

  it('that is missing is the defaults', async () => {
    const loaded = await loadConfiguration(join(folder, 'none', 'config.toml'));
    expect(loaded).toEqual({ configuration: defaultConfiguration, missing: true });
  });

  it('is read, with its errors', async () => {
    writeFileSync(path, '\ufeff[agent]\nguarded = true\n', { mode: 0o600 });
    expect(await loadConfiguration(path)).toMatchObject({ missing: false, configuration: { rules: [] } });
    writeFileSync(path, '\n[agent]\nguarded = 1\n');
    expect(await texts()).toEqual(['config.toml:3: [agent] guarded: must be true or false']);
  });

  it.each([0o620, 0o602, 0o666])('that others may write (%o) is refused', async (mode) => {
    writeFileSync(path, '');
    chmodSync(path, mode);
    expect(await texts()).toEqual([
      'config.toml may be written by others, who could change the rules. To put that right: chmod go-w',
    ]);
    chmodSync(path, 0o644);
    expect(await texts()).toEqual(['none']);
  });

  it('that is none, is too long or no text is refused', async () => {
    expect(await texts(folder)).toEqual([expect.stringMatching(/is not a file$/)]);
    writeFileSync(path, `#${' '.repeat(MAX_FILE_BYTES)}`);
    expect(await texts()).toEqual([`config.toml is longer than ${MAX_FILE_BYTES} bytes`]);
    writeFileSync(path, `#${' '.repeat(MAX_FILE_BYTES - 1)}`);
    expect(await texts()).toEqual(['none']);
    writeFileSync(path, new Uint8Array([0x23, 0xff, 0x0a]));
    expect(await texts()).toEqual(['config.toml is not UTF-8']);
    expect(await texts(join(path, 'config.toml'))).toEqual(['config.toml: Not a directory']);
  });
});

describe('a watched file', () => {
  const base = join(folder, 'watched');
  const path = join(base, 'latchkey', 'config.toml');
  const watches: ConfigurationWatch[] = [];
  let changes = 0;
  afterAll(() => {
    for (const one of watches) one.close();
  });

  /** What is done, and the number of changes noticed by the time that one is. */
  async function noticed(act: () => void): Promise<void> {
    const before = changes;
    act();
    while (changes === before) await new Promise((resolve) => setTimeout(resolve, 10));
  }

  beforeAll(() => {
    mkdirSync(base);
    watches.push(watchConfiguration(path, () => changes++));
  });

  it('is noticed when it comes, with its folder', async () => {
    await noticed(() => {
      mkdirSync(join(base, 'latchkey'));
      writeFileSync(path, '# 1');
    });
  });

  it('is noticed when it is written, replaced, made unusable, removed and made again', async () => {
    await noticed(() => writeFileSync(path, '# 22'));
    for (const text of ['# 333', '# 4444']) {
      await noticed(() => {
        writeFileSync(`${path}.new`, text);
        renameSync(`${path}.new`, path);
      });
    }
    await noticed(() => chmodSync(path, 0o666));
    await noticed(() => unlinkSync(path));
    await noticed(() => writeFileSync(path, '# 55555'));
  });

  it('is noticed when its folder was moved away and made again', async () => {
    await noticed(() => renameSync(join(base, 'latchkey'), join(base, 'old')));
    await noticed(() => {
      mkdirSync(join(base, 'latchkey'));
      writeFileSync(path, '# 666666');
    });
    await noticed(() => writeFileSync(path, '# 7777777'));
  });

  it('is noticed where a link leads to it', async () => {
    mkdirSync(join(base, 'dotfiles'));
    const real = join(base, 'dotfiles', 'latchkey.toml');
    writeFileSync(real, '# 1');
    await noticed(() => {
      unlinkSync(path);
      symlinkSync(real, path);
    });
    await noticed(() => writeFileSync(real, '# 22'));
  });

  it('is not taken for another beside it, nor noticed any more once closed', async () => {
    const before = changes;
    writeFileSync(join(base, 'latchkey', 'other.toml'), '# 1');
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(changes).toBe(before);
    for (const one of watches) one.close();
    writeFileSync(join(base, 'dotfiles', 'latchkey.toml'), '# 333');
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(changes).toBe(before);
  });
});
