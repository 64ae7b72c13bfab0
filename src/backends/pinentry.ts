/**
 * Asks by a pinentry program, GnuPG's own dialog, over the Assuan protocol on its standard input and output: CONFIRM for
 * consent, GETPIN for a secret. Which one it is (GTK, Qt, curses, a plain terminal, macOS) is the owner's choice. Not used:
 * quality bars, repetition, the password cache of a desktop.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { isatty } from 'node:tty';
import type { Offer, Question, Reply } from '../agent/ports.ts';
import { ALLOW_ONCE, buttonOf, detailsOf, lastingOffer, line, MAX_SENTENCE, REFUSE, titleOf } from './asktext.ts';
import { Assuan, AssuanError, type Outcome } from './assuan.ts';
import type { Environment } from './program.ts';

/** The program that is asked: LATCHKEY_PINENTRY, or `pinentry` from PATH, which systems point at the desktop's. */
export function pinentryProgram(env: Environment): string {
  return env.LATCHKEY_PINENTRY || 'pinentry';
}

/** Programs that are known to show a third button; others ask for once alone, since some show a third as the second. */
const THREE_BUTTONS = /^(tty|curses|gtk2|qt|qt4|qt5|qt6|mac)(:|$)/;

/** An underscore marks the key that stands for a button, another one for each: in text of others there is none. */
function labelOf(offer: Offer): string {
  return buttonOf(offer).replaceAll('_', '__').replace('Allow', 'A_llow');
}

/** Paragraphs in lines for a narrow terminal, which some programs do not break themselves. */
function wrapped(paragraphs: readonly string[]): readonly string[] {
  return paragraphs.flatMap((text) => text.match(/.{1,60}(?:\s+|$)|.{60}/g) ?? []).map((text) => text.trimEnd());
}

/** Whether programs of this machine can show something without a display or terminal being named. */
const NEEDS_NO_PLACE = process.platform === 'darwin';

/**
 * Whether there is a place for the dialog. Some programs take the lack of one for a refusal, which would then be the answer
 * while the question is on another screen.
 */
function hasTerminal({ GPG_TTY }: Environment): boolean {
  if (GPG_TTY === undefined || GPG_TTY === '') return false;
  try {
    const fd = openSync(GPG_TTY, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
    const isTerminal = isatty(fd);
    closeSync(fd);
    return isTerminal;
  } catch {
    return false;
  }
}

/** @throws AssuanError where the program cannot be run, talks nonsense, or has no place for its dialog */
async function start(
  program: string,
  env: Environment,
  signal: AbortSignal,
): Promise<{ readonly pinentry: Assuan; readonly flavour: string }> {
  const displayed = NEEDS_NO_PLACE || Boolean(env.DISPLAY || env.WAYLAND_DISPLAY);
  const onTerminal = hasTerminal(env);
  if (!displayed && !onTerminal) throw new AssuanError('no DISPLAY, and no terminal in GPG_TTY');
  const pinentry = new Assuan(program, env, signal);
  try {
    await pinentry.greeting();
    // None of these is a must: an old one may not know them.
    const locale = env.LC_ALL || env.LC_CTYPE || env.LANG;
    if (onTerminal) await pinentry.command(`OPTION ttyname=${env.GPG_TTY}`);
    if (onTerminal && env.TERM) await pinentry.command(`OPTION ttytype=${env.TERM}`);
    if (locale) await pinentry.command(`OPTION lc-ctype=${locale}`);
    if (env.PINENTRY_USER_DATA) await pinentry.command(`OPTION pinentry-user-data=${env.PINENTRY_USER_DATA}`);
    const told = await pinentry.command('GETINFO flavor');
    const flavour = told.kind === 'ok' && told.data !== undefined ? new TextDecoder().decode(told.data) : '';
    if (!onTerminal && /^(tty|curses)$/.test(flavour)) throw new AssuanError('no terminal in GPG_TTY');
    return { pinentry, flavour };
  } catch (error) {
    pinentry.close();
    throw error;
  }
}

/** Which answer became of a dialog; undefined: none. */
function answerOf(outcome: Outcome): 'yes' | 'third' | 'no' | undefined {
  switch (outcome.kind) {
    case 'ok':
      return 'yes';
    case 'not-confirmed':
      return 'third';
    case 'cancelled':
      return 'no';
    default:
      return undefined;
  }
}

/**
 * Asks for consent, with a third button for an answer that lasts. That one is asked about once more: a dialog that is
 * closed in another way than by a button may look the same to us, and must not be a lasting yes.
 * @returns undefined where nobody was reached
 * @throws AssuanError
 */
export async function askByPinentry(
  question: Question,
  env: Environment,
  signal: AbortSignal,
  program: string = pinentryProgram(env),
): Promise<Reply | undefined> {
  const { pinentry, flavour } = await start(program, env, signal);
  try {
    const offer = THREE_BUTTONS.test(flavour) ? lastingOffer(question) : undefined;
    const sentence = line(question.sentence, MAX_SENTENCE);
    const title = titleOf(question);
    const confirm = async (text: readonly string[], yes: string, third?: string): Promise<Outcome> => {
      await pinentry.command('RESET');
      await pinentry.command('SETTITLE', title);
      await pinentry.command('SETDESC', text.join('\n'));
      await pinentry.command('SETOK', yes);
      await pinentry.command('SETCANCEL', `_${REFUSE}`);
      if (third !== undefined) await pinentry.command('SETNOTOK', third);
      return pinentry.command('CONFIRM');
    };
    const label = offer === undefined ? undefined : labelOf(offer);
    let outcome = await confirm([title, '', sentence, '', ...detailsOf(question)], `_${ALLOW_ONCE}`, label);
    // A small terminal has no room for all of it.
    if (outcome.kind === 'error') {
      const short = offer === undefined ? undefined : 'A_llow longer';
      outcome = await confirm(wrapped([title, sentence]), `_${ALLOW_ONCE}`, short);
    }
    const by = 'pinentry';
    const answer = answerOf(outcome);
    if (answer === 'yes') return { allow: true, scope: 'once', by };
    if (answer === 'no' || (answer === 'third' && offer === undefined)) return { allow: false, scope: 'once', by };
    if (answer === undefined || offer === undefined) return undefined;
    const lasting = answerOf(await confirm(wrapped([`${buttonOf(offer)}?`, sentence]), '_Allow'));
    if (lasting === undefined) return undefined;
    return { allow: lasting === 'yes', scope: lasting === 'yes' ? offer.scope : 'once', by };
  } finally {
    pinentry.close();
  }
}

/**
 * Asks for a pass phrase or PIN. The caller wipes the answer.
 * @param prompt a line or more of what it is for, with text of others made visible
 * @returns undefined where the person refused, or nobody was reached
 * @throws AssuanError
 */
export async function askSecretByPinentry(
  prompt: string,
  env: Environment,
  signal: AbortSignal,
  program: string = pinentryProgram(env),
): Promise<Uint8Array | undefined> {
  const { pinentry } = await start(program, env, signal);
  try {
    await pinentry.command('SETTITLE', 'Latchkey');
    await pinentry.command('SETDESC', prompt);
    await pinentry.command('SETPROMPT', 'PIN:');
    const outcome = await pinentry.command('GETPIN');
    return outcome.kind === 'ok' ? (outcome.data ?? new Uint8Array()) : undefined;
  } finally {
    pinentry.close();
  }
}
