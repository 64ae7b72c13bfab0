/**
 * Asks a person in all the ways at once that were configured: the first answer wins, and the other ways are closed. Ways
 * that show one dialog at a time (askpass, pinentry) have their questions in a line, those of this machine's own programs
 * before those that may come from another one. What each way says and does is in docs/asking.md.
 */
import type { Confirm, Log, Question, Reply } from '../agent/ports.ts';
import { askConfirm, askpassProgram, askpassUse, systemAskpass } from './askpass.ts';
import { line, MAX_SENTENCE, yesMeans } from './asktext.ts';
import { AssuanError } from './assuan.ts';
import { askByNotification } from './notification.ts';
import { askByPinentry, pinentryProgram } from './pinentry.ts';
import { type Environment, isInstalled } from './program.ts';

/** How a person can be asked, beside `latchkey watch`, which always can. */
export const WAYS = ['askpass', 'pinentry', 'notification'] as const;
export type WayName = (typeof WAYS)[number];

export interface AskingOptions {
  /** Each at most once; none: nobody is asked, and all that wants an answer is refused. */
  readonly ways: readonly WayName[];
  /** What asked programs are started with, as it was before our launcher. */
  readonly env: Environment;
  readonly log: Log;
  /** OpenSSH's words alone, as its ssh-agent asks. */
  readonly plain?: boolean;
}

export interface AskingStatus {
  readonly way: WayName;
  /** The program that is started; undefined: none is. */
  readonly program: string | undefined;
  /** Why it last reached nobody; undefined: it did, or was not used yet. */
  readonly trouble: string | undefined;
}

export interface Asking extends Confirm {
  /** For `latchkey status`: how people are asked, and what was wrong the last time. */
  status(): readonly AskingStatus[];
}

/**
 * The ways of `latchkey agent` where its owner named none: an askpass program where one is named; a notification where
 * there is a session bus; pinentry where there is a display or a terminal for it and no askpass program. Where pinentry is
 * not installed, the system's own askpass program takes its place.
 */
export function defaultWays(env: Environment): readonly WayName[] {
  const ways: WayName[] = [];
  const displayed = Boolean(env.DISPLAY || env.WAYLAND_DISPLAY);
  if (env.SSH_ASKPASS && askpassUse(env) !== 'never') ways.push('askpass');
  else if ((displayed || env.GPG_TTY) && isInstalled(pinentryProgram(env), env)) ways.push('pinentry');
  else if (askpassUse(env) !== 'never' && systemAskpass() !== undefined) ways.push('askpass');
  if (env.DBUS_SESSION_BUS_ADDRESS) ways.push('notification');
  return ways;
}

/** @returns undefined where it reaches nobody */
type Way = (question: Question, signal: AbortSignal, report: (why: string) => void) => Promise<Reply | undefined>;

/** Turns at a way that shows one dialog at a time: the owner's own programs do not wait behind those of a remote machine. */
class Turns {
  readonly #waiting: { readonly forwarded: boolean; enter(isOurTurn: boolean): void }[] = [];
  #busy = false;

  /** @returns whether it is our turn; otherwise the signal was aborted */
  take(forwarded: boolean, signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return Promise.resolve(false);
    if (!this.#busy) {
      this.#busy = true;
      return Promise.resolve(true);
    }
    return new Promise((resolve) => {
      const withdraw = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(place), 1);
        resolve(false);
      };
      const enter = (isOurTurn: boolean): void => {
        signal.removeEventListener('abort', withdraw);
        resolve(isOurTurn);
      };
      const place = { forwarded, enter };
      this.#waiting.push(place);
      signal.addEventListener('abort', withdraw, { once: true });
    });
  }

  leave(): void {
    const local = this.#waiting.findIndex(({ forwarded }) => !forwarded);
    const [next] = this.#waiting.splice(Math.max(local, 0), 1);
    this.#busy = next !== undefined;
    next?.enter(true);
  }
}

function oneByOne(way: Way): Way {
  const turns = new Turns();
  return async (question, signal, report) => {
    if (!(await turns.take(question.forwarded, signal))) return undefined;
    try {
      // Withdrawn in the very moment in which its turn came.
      return signal.aborted ? undefined : await way(question, signal, report);
    } finally {
      turns.leave();
    }
  };
}

function askpassWay(env: Environment, plain: boolean): Way {
  return async (question, signal, report) => {
    const words = [question.opensshText];
    if (!plain) {
      words.push('', line(question.sentence, MAX_SENTENCE));
      const meaning = yesMeans(question);
      if (meaning !== undefined) words.push(meaning);
    }
    const allow = await askConfirm(words.join('\n'), env, signal, report);
    return allow === undefined ? undefined : { allow, scope: allow ? question.lasts : 'once', by: 'askpass' };
  };
}

function pinentryWay(env: Environment): Way {
  return async (question, signal, report) => {
    try {
      const reply = await askByPinentry(question, env, signal);
      if (reply === undefined) report('it has no place to show a dialog');
      return reply;
    } catch (error) {
      if (!(error instanceof AssuanError)) throw error;
      if (!signal.aborted) report(error.message);
      return undefined;
    }
  };
}

/** @throws nothing: a way that fails reaches nobody */
export function createAsking({ ways, env, log, plain = false }: AskingOptions): Asking {
  const makers: Readonly<Record<WayName, () => Way>> = {
    // Plain ones each have a dialog at once: a client of the drop-in never waits for another client's question.
    askpass: () => (plain ? askpassWay(env, true) : oneByOne(askpassWay(env, false))),
    pinentry: () => oneByOne(pinentryWay(env)),
    notification: () => (question, signal, report) => askByNotification(question, env, signal, report),
  };
  const used = [...new Set(ways)].map((name) => ({
    name,
    way: makers[name](),
    trouble: undefined as string | undefined,
  }));
  const programs: Readonly<Record<WayName, string | undefined>> = {
    askpass: askpassProgram(env),
    pinentry: pinentryProgram(env),
    notification: undefined,
  };

  const confirm = async (question: Question, signal: AbortSignal): Promise<Reply | undefined> => {
    if (signal.aborted) return undefined;
    const over = new AbortController();
    const withdraw = (): void => over.abort();
    signal.addEventListener('abort', withdraw, { once: true });
    const ask = async (one: (typeof used)[number]): Promise<Reply> => {
      const report = (why: string): void => {
        const trouble = line(why, 200);
        // Said once, not with each question.
        log(trouble === one.trouble ? 'debug' : 'info', `${question.id}: nobody is reached by ${one.name}: ${trouble}`);
        one.trouble = trouble;
      };
      const reply = await one.way(question, over.signal, report);
      // Promise.any takes the first that is not rejected.
      if (reply === undefined) throw new NobodyReached();
      one.trouble = undefined;
      return reply;
    };
    try {
      const withdrawn = new Promise<undefined>((resolve) =>
        over.signal.addEventListener('abort', () => resolve(undefined)),
      );
      const reply = await Promise.race([Promise.any(used.map(ask)), withdrawn]);
      return signal.aborted ? undefined : reply;
    } catch (error) {
      if (error instanceof AggregateError && error.errors.every((one) => one instanceof NobodyReached))
        return undefined;
      log('error', `${question.id}: asking failed`);
      return undefined;
    } finally {
      signal.removeEventListener('abort', withdraw);
      over.abort();
    }
  };

  return {
    confirm,
    status: () => used.map(({ name, trouble }) => ({ way: name, program: programs[name], trouble })),
  };
}

class NobodyReached extends Error {}
