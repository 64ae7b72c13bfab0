/**
 * Asks by a desktop notification with buttons (Desktop Notifications Specification 1.2: GetCapabilities, Notify,
 * CloseNotification, ActionInvoked, NotificationClosed), and by nothing else of it. A server without buttons is not used;
 * a notification that was dismissed, or expired, is no answer.
 */
import type { Question, Reply, Scope } from '../agent/ports.ts';
import { ALLOW_ONCE, buttonOf, detailsOf, lastingOffer, line, MAX_SENTENCE, REFUSE, titleOf } from './asktext.ts';
import { type Bus, connectBus, textsOf } from './dbus.ts';
import { DbusError, type Message } from './dbusmessage.ts';
import type { Environment } from './program.ts';

const SERVER = {
  destination: 'org.freedesktop.Notifications',
  path: '/org/freedesktop/Notifications',
  interface: 'org.freedesktop.Notifications',
} as const;
/** Some servers tell that it was closed before they tell by which button. */
const ACTION_MS = 250;
/** Signals that arrive before we know which notification is ours. */
const MAX_EARLY_SIGNALS = 64;
const CRITICAL = 2;
const NEVER_EXPIRES = 0;
const REFUSE_KEY = 'refuse';

/** Servers read the body as markup where they say so; others may do so without saying. */
function escaped(text: string, isMarkup: boolean): string {
  if (!isMarkup) return text.replaceAll('<', '‹').replaceAll('>', '›');
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

interface Button {
  readonly key: string;
  readonly label: string;
}

function buttonsOf(question: Question): readonly Button[] {
  const offer = lastingOffer(question);
  // What is shown first may be all that is shown: to refuse stays possible.
  const buttons: Button[] = [
    { key: 'once', label: ALLOW_ONCE },
    { key: REFUSE_KEY, label: REFUSE },
  ];
  if (offer !== undefined) buttons.push({ key: offer.scope, label: buttonOf(offer) });
  return buttons;
}

/**
 * @param report is told, in one line, why nobody was reached
 * @returns undefined where nobody was reached, or answered
 */
export async function askByNotification(
  question: Question,
  env: Environment,
  signal: AbortSignal,
  report: (line: string) => void,
): Promise<Reply | undefined> {
  const address = env.DBUS_SESSION_BUS_ADDRESS ?? '';
  if (address === '') {
    report('no DBUS_SESSION_BUS_ADDRESS');
    return undefined;
  }
  const over = new AbortController();
  try {
    return await ask(question, address, signal, over.signal);
  } catch (error) {
    if (!(error instanceof DbusError)) throw error;
    if (!signal.aborted) report(line(error.message, 120));
    return undefined;
  } finally {
    over.abort();
  }
}

async function ask(
  question: Question,
  address: string,
  signal: AbortSignal,
  over: AbortSignal,
): Promise<Reply | undefined> {
  let shown: { readonly id: number; readonly server: string } | undefined;
  const early: Message[] = [];
  let tell = (_message: Message): void => {};
  const bus = await connectBus(
    address,
    (message) => {
      if (shown !== undefined) tell(message);
      else if (early.length < MAX_EARLY_SIGNALS) early.push(message);
    },
    over,
  );
  if (signal.aborted) return undefined;
  const capabilities = await bus.call({ ...SERVER, member: 'GetCapabilities', signature: '', body: [] });
  const can = textsOf(capabilities.body);
  if (!can.includes('actions')) throw new DbusError('the notification server has no buttons');
  await bus.match(`type='signal',interface='${SERVER.interface}',path='${SERVER.path}'`);
  await bus.match(`type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='${SERVER.destination}'`);
  if (signal.aborted) return undefined;
  const buttons = buttonsOf(question);
  const answer = await bus.call(notify(question, buttons, can.includes('body-markup')));
  const [id] = answer.body;
  if (typeof id !== 'number' || answer.sender === undefined) throw new DbusError('no number of a notification');
  shown = { id, server: answer.sender };
  const { server } = shown;
  return new Promise((resolve, reject) => {
    const end = (key: string | undefined): void => {
      signal.removeEventListener('abort', withdraw);
      bus.tell({ ...SERVER, member: 'CloseNotification', signature: 'u', body: [id] });
      resolve(replyOf(key, buttons));
    };
    const withdraw = (): void => end(undefined);
    tell = (message) => {
      const { member, body, sender } = message;
      if (sender === server && message.interface === SERVER.interface && body[0] === id) {
        if (member === 'ActionInvoked' && buttons.some(({ key }) => key === body[1])) end(String(body[1]));
        else if (member === 'NotificationClosed') setTimeout(() => end(undefined), ACTION_MS);
      } else if (member === 'NameOwnerChanged' && sender === 'org.freedesktop.DBus' && body[1] === server) {
        reject(new DbusError('the notification server has ended'));
      }
    };
    signal.addEventListener('abort', withdraw, { once: true });
    void bus.ended.then(() => reject(new DbusError('the bus hung up')));
    for (const message of early) tell(message);
    if (signal.aborted) withdraw();
  });
}

function replyOf(key: string | undefined, buttons: readonly Button[]): Reply | undefined {
  if (key === undefined || !buttons.some((button) => button.key === key)) return undefined;
  const by = 'notification';
  return key === REFUSE_KEY ? { allow: false, scope: 'once', by } : { allow: true, scope: key as Scope, by };
}

function notify(question: Question, buttons: readonly Button[], isMarkup: boolean): Parameters<Bus['call']>[0] {
  const text = [line(question.sentence, MAX_SENTENCE), ...detailsOf(question)].join('\n');
  return {
    ...SERVER,
    member: 'Notify',
    signature: 'susssasa{sv}i',
    body: [
      'Latchkey',
      0,
      'dialog-password',
      titleOf(question),
      escaped(text, isMarkup),
      buttons.flatMap(({ key, label }) => [key, label]),
      [['urgency', { signature: 'y', value: CRITICAL }]],
      NEVER_EXPIRES,
    ],
  };
}
