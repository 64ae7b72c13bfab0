/** ssh-add -K: the keys that live on a security key itself, read by OpenSSH's ssh-sk-helper and given to the agent. */
import { loadResidentKeys, SecurityKeyError } from '../backends/fido.ts';
import { publicKeyOf } from '../backends/skmessages.ts';
import { fingerprint, typeName } from '../keys/publickey.ts';
import type { AddedKey } from '../wire/requests.ts';
import { errorText } from './errors.ts';
import { shown } from './output.ts';
import { constraintsOf, hintAt, type Session } from './ssh-add-session.ts';

const fatalSignals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

async function addResident(session: Session, key: AddedKey, comment: string): Promise<boolean> {
  const { agent, options, out } = session;
  const publicKey = publicKeyOf(key);
  const name = `${typeName(publicKey)} ${fingerprint(publicKey, options.hash)}`;
  try {
    await agent.add(key, comment, { ...constraintsOf(session), skProvider: options.skProvider });
  } catch (error) {
    out.error(`Unable to add key ${name}`);
    hintAt(session, error);
    return false;
  }
  if (options.quiet) return true;
  out.error(`Resident identity added: ${name}`);
  // Seconds, where a key from a file has hours and minutes: scripts match what OpenSSH says.
  if (options.lifetime > 0) out.error(`Lifetime set to ${options.lifetime} seconds`);
  if (options.confirm) out.error('The user must confirm each use of the key');
  return true;
}

/**
 * The keys of the device. The helper has a process group of its own, so what ends us from the terminal must end it as well:
 * else the device would blink on.
 */
async function load({ options, env }: Session, pin: Uint8Array): ReturnType<typeof loadResidentKeys> {
  const ended = new AbortController();
  let by: NodeJS.Signals | undefined;
  const end = (signal: NodeJS.Signals): void => {
    by = signal;
    ended.abort();
  };
  for (const signal of fatalSignals) process.on(signal, end);
  try {
    return await loadResidentKeys(options.skProvider, pin, env, ended.signal);
  } finally {
    for (const signal of fatalSignals) process.off(signal, end);
    pin.fill(0);
    if (by !== undefined) process.kill(process.pid, by);
  }
}

/** -K. All keys of the device are added; true where each of them was. */
export async function resident(session: Session): Promise<boolean> {
  const { options, out } = session;
  const pin = await session.ask('Enter PIN for authenticator: ');
  let keys: Awaited<ReturnType<typeof loadResidentKeys>>;
  try {
    keys = await load(session, pin);
  } catch (error) {
    out.error(
      `Unable to load resident keys: ${error instanceof SecurityKeyError ? error.opensshText : errorText(error)}`,
    );
    hintAt(session, error);
    if (error instanceof SecurityKeyError && error.code === 'wrong-passphrase')
      out.hint(`The PIN is wrong, or none was given. A security key blocks after some wrong ones.`);
    return false;
  }
  try {
    let all = true;
    for (const { key, comment } of keys) all = (await addResident(session, key, comment)) && all;
    // OpenSSH says nothing here.
    if (keys.length === 0) out.error(`Unable to load resident keys: key not found`);
    if (keys.length === 0)
      out.hint(`${shown(options.skProvider)} found no key for SSH. ssh-keygen -O resident makes one.`);
    return all && keys.length > 0;
  } finally {
    for (const { key } of keys) key.fields.keyHandle?.fill(0);
  }
}
