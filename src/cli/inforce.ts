/**
 * The configuration that a running agent obeys: read at its start, and again when the file changes or somebody says so. A
 * file with errors leaves in force what was, and says so.
 */
import { mkdirSync, readFileSync, realpathSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import type { Agent } from '../agent/agent.ts';
import type { Log } from '../agent/ports.ts';
import type { Policy } from '../policy/decide.ts';
import {
  type Configuration,
  type ConfigurationError,
  defaultConfiguration,
  loadConfiguration,
  watchConfiguration,
} from './configuration.ts';

export interface InForceStatus {
  readonly file: string;
  /** Whether the file is there; without it the defaults hold. */
  readonly missing: boolean;
  readonly rules: number;
  /** What is wrong with the file as it is now; null: it is what is in force. */
  readonly errors: readonly string[] | null;
  /** Since when this configuration is in force. */
  readonly since: string;
}

/** The file as it is can't be obeyed. */
export class ConfigurationRefused extends Error {
  readonly errors: readonly ConfigurationError[];

  constructor(errors: readonly ConfigurationError[]) {
    super(errors.map(({ text }) => text).join('\n'));
    this.errors = errors;
  }
}

/**
 * The text of `content` with `rule` before the rule whose header is in line `before`, the one that asked, so that it comes
 * into force and what stands above it stays so; or else at the end. Comments above a rule stay with it.
 */
export function withRule(content: string, rule: string, before: number | undefined): string {
  const lines = content.split('\n');
  let at = before === undefined ? -1 : before - 1;
  if (!/^\s*\[\[\s*rule\s*\]\]/.test(lines[at] ?? '')) {
    const text = content === '' || content.endsWith('\n') ? content : `${content}\n`;
    return `${text}${text === '' ? '' : '\n'}${rule}`;
  }
  while (at > 0 && /^\s*#/.test(lines[at - 1] ?? '')) at--;
  return [...lines.slice(0, at), ...rule.split('\n'), ...lines.slice(at)].join('\n');
}

/** Whether `content` has this very rule already, not behind the one in line `before`. */
export function hasRule(content: string, rule: string, before: number | undefined): boolean {
  const at = `\n${content}`.indexOf(`\n${rule}`);
  if (at < 0) return false;
  // Another condition behind it would make it another rule.
  const isWhole = /^(?:\s|#[^\n]*\n)*(?:\[|$)/.test(content.slice(at + rule.length));
  return isWhole && (before === undefined || content.slice(0, at).split('\n').length <= before);
}

export class ConfigurationInForce {
  readonly file: string;
  readonly #log: Log;
  /** The table where the file does not say another. */
  readonly #table: Policy['table'];
  #configuration: Configuration;
  #missing: boolean;
  #errors: readonly string[] | null = null;
  #since = new Date().toISOString();
  #agent: Agent | undefined;
  #untilRead: Policy['table'] | undefined;

  private constructor(file: string, table: Policy['table'], log: Log, configuration: Configuration, missing: boolean) {
    this.file = file;
    this.#log = log;
    this.#table = table;
    this.#configuration = configuration;
    this.#missing = missing;
  }

  /** @throws ConfigurationRefused */
  static async read(file: string, table: Policy['table'], log: Log): Promise<ConfigurationInForce> {
    const loaded = await loadConfiguration(file);
    if ('errors' in loaded) throw new ConfigurationRefused(loaded.errors);
    return new ConfigurationInForce(file, table, log, loaded.configuration, loaded.missing);
  }

  /** The defaults, with the stricter table until the file at `file` is without errors, and then `table`. */
  static without(file: string, table: Policy['table'], log: Log, refused: ConfigurationRefused): ConfigurationInForce {
    const made = new ConfigurationInForce(file, table, log, defaultConfiguration, false);
    made.#untilRead = 'latchkey';
    made.#errors = refused.errors.map(({ text }) => text);
    return made;
  }

  get settings(): Configuration['settings'] {
    return this.#configuration.settings;
  }

  get policy(): Pick<Policy, 'table' | 'rules' | 'lasts'> {
    const { settings, rules } = this.#configuration;
    const table = this.#untilRead ?? (settings.agent.guarded ? 'latchkey' : this.#table);
    return { table, rules, lasts: settings.ask.lasts };
  }

  status(): InForceStatus {
    return {
      file: this.file,
      missing: this.#missing,
      rules: this.#configuration.rules.length,
      errors: this.#errors,
      since: this.#since,
    };
  }

  /** From now on `agent` obeys what is in force, also after the file changed. */
  govern(agent: Agent): void {
    this.#agent = agent;
    this.#apply();
    watchConfiguration(
      this.file,
      () => void this.reload().catch(() => {}),
      (text) => this.#log('error', `${this.file} is not watched, changes count after latchkey reload: ${text}`),
    );
  }

  #apply(): void {
    const agent = this.#agent;
    if (agent === undefined) return;
    agent.setPolicy(this.policy);
    agent.questions.limitMs = this.settings.ask.seconds * 1000;
  }

  /** Reads the file again. @throws ConfigurationRefused where it has errors; the old rules stay in force */
  async reload(): Promise<void> {
    const loaded = await loadConfiguration(this.file);
    if ('errors' in loaded) {
      this.#errors = loaded.errors.map(({ text }) => text);
      for (const text of this.#errors) this.#log('error', text);
      this.#log('error', 'the configuration was not read: what was in force stays so');
      throw new ConfigurationRefused(loaded.errors);
    }
    this.#configuration = loaded.configuration;
    this.#missing = loaded.missing;
    this.#errors = null;
    this.#untilRead = undefined;
    this.#since = new Date().toISOString();
    if (this.#agent === undefined) return;
    this.#apply();
    this.#log('info', `${this.#configuration.rules.length} rules in force`);
  }

  /**
   * Writes `rule` into the file, before the rule in line `before` or at the end, and obeys it.
   * @returns false, with the old file in place, where that failed
   */
  async addRule(rule: string, before: number | undefined): Promise<boolean> {
    try {
      // From here to the end nothing is awaited: two answers at once would each write the file without the other's rule.
      const { parseConfiguration } = await import('./configurationschema.ts');
      let content = '';
      let mode = 0o600;
      // Where the name is a link, what it leads to is written, and the link stays.
      let { file } = this;
      try {
        file = realpathSync(file);
        content = readFileSync(file, 'utf8');
        mode = statSync(file).mode & 0o777;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
        mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
      }
      // One answer may be for many requests, and the same answer be given to several.
      if (hasRule(content, rule, before)) {
        await this.reload();
        return true;
      }
      const changed = withRule(content, rule, before);
      if ('errors' in parseConfiguration(changed, basename(file))) {
        this.#log('error', `${file}: it could not be read with the rule in it`);
        return false;
      }
      const fresh = `${file}.new-${process.pid}`;
      writeFileSync(fresh, changed, { mode, flag: 'wx' });
      renameSync(fresh, file);
      await this.reload();
      return true;
    } catch (error) {
      if (!(error instanceof ConfigurationRefused))
        this.#log('error', `${this.file}: ${error instanceof Error ? error.message : 'not written'}`);
      return false;
    }
  }
}
