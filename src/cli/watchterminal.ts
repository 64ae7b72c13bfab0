/**
 * A terminal whose last rows are a block that changes, below lines that stay and scroll away like any program's: no
 * alternate screen, so what was shown is still there afterwards. Written for whatever understands ECMA-48 (xterm, tmux,
 * the Linux console); a dumb one gets lines alone. Whatever ends the program, the terminal is as it was.
 */
import { columnsOf } from './columns.ts';
import { plainText, type Row, type Style } from './watchrows.ts';

const DEFAULT_COLUMNS = 80;
const DEFAULT_ROWS = 24;
/** Fewer columns than this are taken for a terminal that does not know its size. */
const MIN_COLUMNS = 10;

/** Select Graphic Rendition: attributes alone, then with colours. */
const ATTRIBUTES: Readonly<Record<Style, string>> = {
  plain: '',
  strong: '1',
  faint: '2',
  good: '',
  bad: '1',
  bar: '7',
};
const COLOURS: Readonly<Record<Style, string>> = { ...ATTRIBUTES, good: '32', bad: '1;31', bar: '30;43' };

const HIDE_CURSOR = '\x1b[?25l';
const SHOW_CURSOR = '\x1b[?25h';
// A character that the terminal thinks wider than we do is cut off at the edge, and does not begin a row of its own.
const NO_WRAP = '\x1b[?7l';
const WRAP = '\x1b[?7h';
const CLEAR_BELOW = '\x1b[J';
const BELL = '\x07';

const fatalSignals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

export interface TerminalEvents {
  /** A key, or several that came at once. */
  onKeys(bytes: string): void;
  onResize(): void;
  /** Stopped, and now in the foreground again. */
  onContinue(): void;
  /** The terminal is gone. */
  onHangUp(): void;
}

export class Terminal {
  readonly #isDumb: boolean;
  readonly #styles: Readonly<Record<Style, string>>;
  #block: readonly Row[] = [];
  #isOpen = false;
  readonly #stop: (() => void)[] = [];

  /** @param env NO_COLOR: attributes, no colours; TERM=dumb: neither, and nothing is drawn twice */
  constructor(env: NodeJS.ProcessEnv) {
    this.#isDumb = env.TERM === undefined || env.TERM === '' || env.TERM === 'dumb';
    this.#styles = env.NO_COLOR !== undefined && env.NO_COLOR !== '' ? ATTRIBUTES : COLOURS;
  }

  get isDumb(): boolean {
    return this.#isDumb;
  }

  get columns(): number {
    const { columns } = process.stdout;
    return columns >= MIN_COLUMNS ? columns : DEFAULT_COLUMNS;
  }

  get height(): number {
    const { rows } = process.stdout;
    return rows > 0 ? rows : DEFAULT_ROWS;
  }

  open(events: TerminalEvents): void {
    const { stdin, stdout } = process;
    const listen = (source: NodeJS.EventEmitter, event: string, listener: (...given: never[]) => void): void => {
      source.on(event, listener as () => void);
      this.#stop.push(() => source.removeListener(event, listener as () => void));
    };
    listen(process, 'exit', () => this.#restore());
    for (const signal of fatalSignals) {
      listen(process, signal, () => {
        this.close();
        process.kill(process.pid, signal);
      });
    }
    listen(process, 'SIGTSTP', () => this.suspend());
    listen(process, 'SIGCONT', () => {
      // Whoever had the terminal meanwhile wrote below the block.
      this.#block = [];
      this.#setUp();
      events.onContinue();
    });
    listen(stdout, 'resize', () => {
      this.#write(this.#erasing());
      this.#block = [];
      events.onResize();
    });
    listen(stdout, 'error', () => events.onHangUp());
    listen(stdin, 'error', () => events.onHangUp());
    listen(stdin, 'end', () => events.onHangUp());
    listen(stdin, 'data', (chunk: Buffer) => events.onKeys(chunk.toString('latin1')));
    this.#setUp();
  }

  #setUp(): void {
    this.#isOpen = true;
    process.stdin.setRawMode(true);
    if (!this.#isDumb) this.#write(HIDE_CURSOR);
  }

  #restore(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#write(`${this.#erasing()}${this.#isDumb ? '' : `${WRAP}${SHOW_CURSOR}`}`);
    this.#block = [];
    try {
      process.stdin.setRawMode(false);
    } catch {
      // The terminal is gone.
    }
  }

  /** As Ctrl-Z does everywhere else. */
  suspend(): void {
    this.#restore();
    process.kill(process.pid, 'SIGSTOP');
  }

  close(): void {
    this.#restore();
    for (const stop of this.#stop.splice(0)) stop();
    process.stdin.pause();
  }

  #write(text: string): void {
    try {
      process.stdout.write(text);
    } catch {
      // It hung up: reading from it says so next.
    }
  }

  /** Leaves the cursor where the block began. Rows that a narrower window has broken are counted as it shows them. */
  #erasing(): string {
    if (this.#isDumb || this.#block.length === 0) return '';
    const { columns } = this;
    const rows = this.#block.reduce((sum, row) => sum + Math.max(Math.ceil(columnsOf(plainText(row)) / columns), 1), 0);
    return `\r${rows > 1 ? `\x1b[${rows - 1}A` : ''}${CLEAR_BELOW}`;
  }

  #styled(row: Row): string {
    if (this.#isDumb) return plainText(row);
    return row
      .map(({ text, style }) => (this.#styles[style] === '' ? text : `\x1b[${this.#styles[style]}m${text}\x1b[m`))
      .join('');
  }

  #drawing(rows: readonly Row[]): string {
    return `${NO_WRAP}${rows.map((row) => this.#styled(row)).join('\r\n')}${WRAP}`;
  }

  /** Lines that stay, above the block. */
  print(rows: readonly Row[]): void {
    const lines = rows.map((row) => `${this.#styled(row)}\r\n`).join('');
    this.#write(
      `${this.#erasing()}${lines}${this.#isDumb || this.#block.length === 0 ? '' : this.#drawing(this.#block)}`,
    );
  }

  /** What the block is from now on. @param told isNews: worth new lines on a dumb terminal; rings: is to be heard */
  draw(rows: readonly Row[], { isNews, rings }: { readonly isNews: boolean; readonly rings: boolean }): void {
    const erasing = this.#erasing();
    this.#block = rows;
    const bell = rings ? BELL : '';
    if (!this.#isDumb) this.#write(`${erasing}${this.#drawing(rows)}${bell}`);
    else if (isNews) this.#write(`${rows.map((row) => `${this.#styled(row)}\r\n`).join('')}${bell}`);
  }
}
