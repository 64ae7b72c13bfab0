/** A real terminal for a program: a tmux of the test's own, whose screen can be read, resized and typed at. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

export interface Screen {
  /** The rows, without what is left empty at their ends. */
  text(): string;
  /** With what has scrolled away. */
  history(): string;
  /** The rows, with the escape sequences of its colours. */
  coloured(): string;
  /** Waits until `text` is (or, with `false`, is not) on the screen. */
  shows(text: string, isThere?: boolean): Promise<string>;
  /** Types as a person does: each argument is a key by tmux's names. */
  type(...keys: readonly string[]): void;
  resize(columns: number, rows: number): void;
  /** Anything of tmux's formats. */
  format(format: string): string;
  /** Waits for the program to end. @returns its exit code */
  ended(): Promise<number>;
  close(): void;
}

const LIMIT_MS = 20_000;
const LOOK_MS = 30;

export function openScreen(
  folder: string,
  argv: readonly string[],
  {
    columns,
    rows,
    env,
  }: { readonly columns: number; readonly rows: number; readonly env: Readonly<Record<string, string>> },
): Screen {
  const server = join(folder, `tmux-${Math.random().toString(36).slice(2)}`);
  const tmux = (...args: readonly string[]): string => {
    const run = spawnSync('tmux', ['-S', server, '-f', '/dev/null', ...args], {
      encoding: 'utf8',
      env: { PATH: process.env.PATH ?? '', HOME: folder, LC_ALL: 'C.UTF-8', TERM: 'xterm-256color', ...env },
    });
    if (run.status !== 0) throw new Error(`tmux ${args[0]}: ${run.stderr}`);
    return run.stdout;
  };
  const settings = Object.entries(env).flatMap(([name, value]) => ['-e', `${name}=${value}`]);
  const size = ['-x', String(columns), '-y', String(rows)];
  tmux(
    '-u',
    'new-session',
    '-d',
    ...size,
    ...settings,
    ...argv,
    ';',
    'set-option',
    'remain-on-exit',
    'on',
    ';',
    'set-option',
    'status',
    'off',
  );
  const text = (): string => tmux('capture-pane', '-p').trimEnd();
  const until = async <T>(look: () => T | undefined): Promise<T> => {
    const end = Date.now() + LIMIT_MS;
    for (;;) {
      const found = look();
      if (found !== undefined) return found;
      if (Date.now() > end) throw new Error(`the screen stayed:\n${text()}`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  };
  const format = (what: string): string => tmux('display-message', '-p', what).trim();
  return {
    text,
    history: () => tmux('capture-pane', '-p', '-S', '-'),
    coloured: () => tmux('capture-pane', '-p', '-e', '-N'),
    shows: (wanted, isThere = true) =>
      until(() => {
        const now = text();
        return now.includes(wanted) === isThere ? now : undefined;
      }),
    type: (...keys) => {
      tmux('send-keys', ...keys);
    },
    resize: (newColumns, newRows) => {
      tmux('resize-window', '-x', String(newColumns), '-y', String(newRows));
    },
    format,
    ended: async () =>
      Number(await until(() => (format('#{pane_dead}') === '1' ? format('#{pane_dead_status}') : undefined))),
    close: () => {
      tmux('kill-server');
    },
  };
}
