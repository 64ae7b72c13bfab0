/** The actions of ssh-add that read no private key, but for the list: lock, unlock, remove all, query, test, and those on tokens. */
import { randomBytes } from 'node:crypto';
import type { Constraints } from '../wire/constraints.ts';
import { SIGN_RSA_SHA2_256 } from '../wire/requests.ts';
import { errorText } from './errors.ts';
import { Fatal, shown } from './output.ts';
import { loadPublicKey, NO_PUBLIC_KEY } from './publicfiles.ts';
import { constraintsOf, hintAt, hintAtProblems, type Session } from './ssh-add-session.ts';

/** How many bytes -T has signed, as OpenSSH does. */
const TEST_BYTES = 1024;

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) difference |= (a[i] as number) ^ (b[i] ?? 0);
  return difference === 0;
}

/** -x and -X. */
export async function lock(session: Pick<Session, 'agent' | 'out' | 'ask'>, locking: boolean): Promise<boolean> {
  const { agent, out } = session;
  const password = await session.ask('Enter lock password: ');
  let again: Uint8Array | undefined;
  const verb = locking ? 'lock' : 'unlock';
  try {
    if (locking) {
      again = await session.ask('Again: ');
      if (!sameBytes(password, again)) {
        out.error('Passwords do not match.');
        return false;
      }
    }
    await (locking ? agent.lock(password) : agent.unlock(password));
    out.error(`Agent ${verb}ed.`);
    return true;
  } catch (error) {
    out.error(`Failed to ${verb} agent: ${errorText(error)}`);
    if (locking && password.length === 0) out.hint('An agent takes no empty password.');
    else out.hint(locking ? 'It may be locked already.' : 'The password is wrong, or the agent is not locked.');
    return false;
  } finally {
    password.fill(0);
    again?.fill(0);
  }
}

/** -D. The older message is sent as well, for agents that keep keys of SSH 1; what they answer to it doesn't matter. */
export async function removeAll({ agent, options, out }: Session): Promise<boolean> {
  let removed = true;
  const both = [agent.removeAll(2), agent.removeAll(1)] as const;
  both[1].catch(() => {});
  try {
    await both[0];
  } catch {
    removed = false;
  }
  await both[1].catch(() => {});
  if (!removed) out.error('Failed to remove all identities.');
  else if (!options.quiet) out.error('All identities removed.');
  return removed;
}

/** -Q. @throws Fatal where the agent has no such request */
export async function query({ agent, out }: Session): Promise<boolean> {
  let names: readonly string[];
  try {
    names = await agent.query();
  } catch (error) {
    throw new Fatal(`unable to query supported extensions: ${errorText(error)}`);
  }
  out.lines(names.map(shown));
  return true;
}

async function testOne(session: Session, path: string): Promise<boolean> {
  const { agent, out } = session;
  const file = await loadPublicKey(path);
  if (file.kind === 'missing') {
    out.error(`Couldn't read public key ${shown(path)}: ${NO_PUBLIC_KEY}`);
    hintAtProblems(session, file.problems);
    return false;
  }
  const { key } = file.loaded;
  const isRsa = key.algorithm.family === 'rsa';
  const data = randomBytes(TEST_BYTES);
  let signature: Uint8Array;
  try {
    signature = await agent.sign(key.blob, data, isRsa ? SIGN_RSA_SHA2_256 : 0);
  } catch (error) {
    out.error(`Agent signature failed for ${shown(path)}: ${errorText(error)}`);
    hintAt(session, error);
    return false;
  }
  const { signatureName, verifySignature } = await import('../keys/signature.ts');
  const name = signatureName(signature);
  if (isRsa && name !== 'rsa-sha2-256') {
    out.error(`Signature verification failed for ${shown(path)}: signature algorithm not supported`);
    return false;
  }
  if (!verifySignature(key, data, signature)) {
    out.error(`Signature verification failed for ${shown(path)}: incorrect signature`);
    return false;
  }
  out.debug(1, `${shown(path)}: the agent signs with this key (${shown(name ?? '')})`);
  return true;
}

/** -T. @throws Fatal without a file */
export async function test(session: Session): Promise<boolean> {
  const { operands } = session.options;
  if (operands.length === 0) throw new Fatal('no keys to test');
  let all = true;
  for (const path of operands) all = (await testOne(session, path)) && all;
  return all;
}

async function tokenConstraints(session: Session): Promise<Constraints> {
  const { certificatesOnly, keysOnly, operands } = session.options;
  const blobs: Uint8Array[] = [];
  for (const path of operands) {
    const file = await loadPublicKey(path);
    if (file.kind === 'missing') {
      hintAtProblems(session, file.problems);
      throw new Fatal(`load certificate ${shown(path)}: ${NO_PUBLIC_KEY}`);
    }
    blobs.push(file.loaded.key.blob);
  }
  const constraints = constraintsOf(session);
  if (keysOnly || blobs.length === 0) return constraints;
  return { ...constraints, associatedCertificates: { certificatesOnly, blobs } };
}

/** -s and -e. @throws Fatal for a certificate that can't be read */
export async function token(session: Session, provider: string): Promise<boolean> {
  const { agent, options, out } = session;
  const constraints = await tokenConstraints(session);
  const pin = options.deleting ? new Uint8Array() : await session.ask('Enter passphrase for PKCS#11: ');
  try {
    await (options.deleting ? agent.removeToken(provider, pin) : agent.addToken(provider, pin, constraints));
    if (!options.quiet) out.error(`Card ${options.deleting ? 'removed' : 'added'}: ${shown(provider)}`);
    return true;
  } catch (error) {
    out.error(`Could not ${options.deleting ? 'remove' : 'add'} card "${shown(provider)}": ${errorText(error)}`);
    hintAt(session, error);
    return false;
  } finally {
    pin.fill(0);
  }
}
