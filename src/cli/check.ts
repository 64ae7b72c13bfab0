/** `latchkey check`: whether config.toml can be used, what is wrong where, and which rules are hardly meant as they stand. */
import { basename } from 'node:path';
import { type Command, configurationFile, DONE_EXIT, FAILED_EXIT, Usage } from './command.ts';
import { loadConfiguration } from './configuration.ts';
import { jsonText, type Output, shown } from './output.ts';
import { ruleWarnings } from './rulewarnings.ts';

const USAGE = `usage: latchkey check [--json] [FILE]

Whether the configuration can be used: FILE, or $XDG_CONFIG_HOME/latchkey/config.toml. Tells every error with its line,
and warns of rules that never decide or that open more than they seem to. Exits with 1 where there is an error.
The agent reads the file by itself when it changes, and keeps the rules that it had where there is an error.

Examples:
  latchkey check
  latchkey check new.toml && mv new.toml ~/.config/latchkey/config.toml`;

function parse(argv: readonly string[], env: NodeJS.ProcessEnv) {
  let json = false;
  let file: string | undefined;
  for (const word of argv) {
    if (word === '--json') json = true;
    else if (word.startsWith('-') || file !== undefined) throw new Usage(`unknown word: ${shown(word)}`);
    else file = word;
  }
  return { json, named: file !== undefined, file: file ?? configurationFile(env) };
}

async function run(argv: readonly string[], env: NodeJS.ProcessEnv, output: Output): Promise<number> {
  const { json, named, file } = parse(argv, env);
  const loaded = await loadConfiguration(file);
  const name = shown(basename(file));
  const isMissing = !('errors' in loaded) && loaded.missing;
  const missing = { line: undefined, text: `${name}: No such file or directory` };
  const errors = 'errors' in loaded ? loaded.errors : isMissing && named ? [missing] : [];
  const rules = 'errors' in loaded ? [] : loaded.configuration.rules;
  const warnings = ruleWarnings(rules).map(({ line, text }) => ({ line, text: `${name}:${line}: warning: ${text}` }));
  const ok = errors.length === 0;
  if (json) output.line(jsonText({ file, ok, missing: isMissing, rules: rules.length, errors, warnings }, 2));
  else {
    for (const { text } of [...errors, ...warnings]) output.error(text);
    if (isMissing && !named) output.line(`no ${shown(file)}: the defaults hold`);
    else if (ok) output.line(`${shown(file)}: no errors, ${rules.length} ${rules.length === 1 ? 'rule' : 'rules'}`);
  }
  return ok ? DONE_EXIT : FAILED_EXIT;
}

export const checkCommand: Command = {
  name: 'check',
  summary: 'whether the configuration can be used, and what is wrong where',
  usage: USAGE,
  run,
};
