/** What the configuration file can set (docs/configuration.md): types, bounds and defaults. */
import type { WayName } from '../backends/asking.ts';
import type { Rule, Scope } from '../policy/rules.ts';

export const MAX_FILE_BYTES = 256 * 1024;
export const MAX_RULES = 500;
/** In one list of a rule. */
export const MAX_PATTERNS = 100;
export const MAX_PATTERN_CHARACTERS = 512;
export const MAX_NAME_CHARACTERS = 64;
/** sshd waits 120 s for a login; less than that leaves time for the answer's way. */
export const MAX_ASK_SECONDS = 90;
export const MIN_RECORD_FILE_BYTES = 64 * 1024;
export const MAX_RECORD_FILE_BYTES = 1024 * 1024 * 1024;
export const MAX_RECORD_FILES = 1000;

/** What a plain yes may mean. "always" is left out: it writes a rule, which is to be seen before. */
export const ASK_LASTS = ['once', 'command', 'destination', 'path'] as const satisfies readonly Scope[];

export interface Settings {
  readonly agent: {
    /** ssh-agent too uses Latchkey's table for what comes from afar. */
    readonly guarded: boolean;
  };
  readonly records: {
    /** What becomes of signatures while records cannot be written. Undefined: refuse, but with ssh-agent warn. */
    readonly unwritable: 'refuse' | 'warn' | undefined;
    /** Of one file, before the next is begun. */
    readonly maxBytes: number;
    /** Files that are kept. */
    readonly maxFiles: number;
  };
  readonly ask: {
    /** Undefined: those that the environment has. */
    readonly ways: readonly WayName[] | undefined;
    /** How long a question waits for its answer. */
    readonly seconds: number;
    /** What a plain yes means, where no rule says. */
    readonly lasts: (typeof ASK_LASTS)[number];
  };
}

export interface Configuration {
  readonly settings: Settings;
  /** In the order of the file. */
  readonly rules: readonly Rule[];
}

export interface ConfigurationError {
  /** From 1; undefined where the file as a whole is meant. */
  readonly line: number | undefined;
  /** With the file's name and line in front: 'config.toml:12: [rule 2] effect: must be ...'. Safe to show. */
  readonly text: string;
}

export const defaultSettings: Settings = Object.freeze({
  agent: Object.freeze({ guarded: false }),
  records: Object.freeze({ unwritable: undefined, maxBytes: 10 * 1024 * 1024, maxFiles: 20 }),
  ask: Object.freeze({ ways: undefined, seconds: MAX_ASK_SECONDS, lasts: 'once' }),
});

/** What holds without a file. */
export const defaultConfiguration: Configuration = Object.freeze({
  settings: defaultSettings,
  rules: Object.freeze([]),
});
