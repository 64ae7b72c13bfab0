/**
 * ssh-add FILE: reads a private key, asking for its passphrase as often as it takes, and gives it to the agent, then the
 * certificate beside it with a lifetime that ends soon after the certificate's own. What was read is wiped.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { KeyError } from '../keys/error.ts';
import type { PrivateKeyFile } from '../keys/keyfile.ts';
import type { PublicKey } from '../keys/publickey.ts';
import { equal } from '../wire/bytes.ts';
import type { AddedKey } from '../wire/requests.ts';
import { errorText, systemErrorText } from './errors.ts';
import { readKeyContent } from './keycontent.ts';
import { shown } from './output.ts';
import { loadPublicKey } from './publicfiles.ts';
import { constraintsOf, hintAt, hintAtProblems, type Session, sayBounds } from './ssh-add-session.ts';
import { MAX_LIFETIME } from './times.ts';

const STDIN = 0;
/** How long the agent keeps a certificate that has expired, in seconds: OpenSSH's CERT_EXPIRY_GRACE. */
const EXPIRY_GRACE = 300;
/** valid_before of a certificate that never expires. */
const FOREVER = 2n ** 64n - 1n;

/** One passphrase, tried on each further file before a person is asked. */
export class PassphraseCache {
  #passphrase: Uint8Array | undefined;

  get(): Uint8Array | undefined {
    return this.#passphrase;
  }

  /** Keeps `passphrase`, which is wiped when another takes its place. */
  set(passphrase: Uint8Array | undefined): void {
    if (passphrase !== this.#passphrase) this.#passphrase?.fill(0);
    this.#passphrase = passphrase;
  }
}

/** Whether the file may be read by its owner alone; says so where not. A file of somebody else is not ours to judge. */
function permissionsOk({ out }: Session, fd: number, name: string): boolean {
  const { uid, mode } = fstatSync(fd);
  if (process.getuid === undefined || uid !== process.getuid() || (mode & 0o77) === 0) return true;
  const rule = '@'.repeat(59);
  out.error(rule);
  out.error('@         WARNING: UNPROTECTED PRIVATE KEY FILE!          @');
  out.error(rule);
  out.error(`Permissions 0${(mode & 0o777).toString(8).padStart(3, '0')} for '${name}' are too open.`);
  out.error('It is required that your private key files are NOT accessible by others.');
  out.error('This private key will be ignored.');
  return false;
}

/** What to do about a file that others may read. A public key is meant for them, and a folder or device is no key. */
async function hintAtPermissions(session: Session, fd: number, name: string): Promise<void> {
  const { out } = session;
  const stat = fstatSync(fd);
  if (stat.isDirectory()) out.hint('this is a folder, not a private key');
  // Reading anything else could wait for ever.
  if (!stat.isFile()) return;
  let content: Uint8Array | undefined;
  try {
    const { readPrivateKeyFile } = await import('../keys/keyfile.ts');
    content = readKeyContent(fd);
    (await readPrivateKeyFile(content, undefined)).wipe();
  } catch (error) {
    if (!isPassphraseError(error)) {
      hintAt(session, error);
      return;
    }
  } finally {
    content?.fill(0);
  }
  out.hint(`To make it yours alone: chmod 600 '${name.replaceAll("'", "'\\''")}'`);
}

/** The file's content, or undefined where it said why not. */
async function readFile(session: Session, path: string, name: string): Promise<Uint8Array | undefined> {
  const { out } = session;
  let fd = STDIN;
  if (path !== '-') {
    try {
      fd = openSync(path, 'r');
    } catch (error) {
      out.error(`${name === '' ? '' : `${name}: `}${systemErrorText(error)}`);
      return undefined;
    }
  }
  try {
    if (fd !== STDIN && !permissionsOk(session, fd, name)) {
      await hintAtPermissions(session, fd, name);
      return undefined;
    }
    return readKeyContent(fd);
  } catch (error) {
    out.error(`Error loading key "${name}": ${errorText(error)}`);
    hintAt(session, error);
    return undefined;
  } finally {
    if (fd !== STDIN) closeSync(fd);
  }
}

function isPassphraseError(error: unknown): boolean {
  return error instanceof KeyError && (error.code === 'wrong-passphrase' || error.code === 'needs-passphrase');
}

/** The key in `content`, asking until a passphrase fits or none is given. */
async function decrypt(
  session: Session,
  content: Uint8Array,
  name: string,
  cache: PassphraseCache,
): Promise<PrivateKeyFile | undefined> {
  const { readPrivateKeyFile } = await import('../keys/keyfile.ts');
  const attempt = async (passphrase: Uint8Array | undefined): Promise<PrivateKeyFile | undefined> => {
    try {
      return await readPrivateKeyFile(content, passphrase);
    } catch (error) {
      if (isPassphraseError(error)) return undefined;
      throw error;
    }
  };
  try {
    let file = await attempt(undefined);
    if (file === undefined && cache.get() !== undefined) file = await attempt(cache.get());
    const suffix = session.options.confirm ? ' (will confirm each use)' : '';
    for (let words = 'Enter passphrase for'; file === undefined; words = 'Bad passphrase, try again for') {
      cache.set(undefined);
      const passphrase = await session.ask(`${words} ${name}${suffix}: `);
      if (passphrase.length === 0) return undefined;
      cache.set(passphrase);
      file = await attempt(passphrase);
    }
    return file;
  } catch (error) {
    cache.set(undefined);
    session.out.error(`Error loading key "${name}": ${errorText(error)}`);
    hintAt(session, error);
    return undefined;
  }
}

/** Seconds for which the agent shall hold `certificate`, 0 for ever, or undefined where it expired. */
function certificateLifetime({ options }: Session, { certificate }: PublicKey): number | undefined {
  if (options.ignoreExpiry || certificate === undefined || certificate.validBefore === FOREVER) return options.lifetime;
  const end = certificate.validBefore + BigInt(EXPIRY_GRACE);
  const now = BigInt(Math.floor(Date.now() / 1000));
  if (now > end) return undefined;
  const left = end - now > BigInt(MAX_LIFETIME) ? MAX_LIFETIME : Number(end - now);
  return options.lifetime > 0 ? Math.min(options.lifetime, left) : left;
}

interface Private {
  readonly key: AddedKey;
  readonly publicBlob: Uint8Array;
  readonly name: string;
  readonly comment: string;
  readonly skProvider: { readonly skProvider?: string };
}

async function addPlain(session: Session, { key, name, comment, skProvider }: Private): Promise<boolean> {
  const { agent, options, out } = session;
  try {
    await agent.add(key, comment, { ...constraintsOf(session), ...skProvider });
  } catch (error) {
    out.error(`Could not add identity "${name}": ${errorText(error)}`);
    hintAt(session, error);
    return false;
  }
  if (!options.quiet) {
    out.error(`Identity added: ${name} (${shown(comment)})`);
    sayBounds(session, options.lifetime);
  }
  return true;
}

async function addCertificate(session: Session, path: string, one: Private): Promise<boolean> {
  const { agent, options, out } = session;
  const certificatePath = `${path}-cert.pub`;
  const certificateName = shown(certificatePath);
  const file = await loadPublicKey(certificatePath);
  if (file.kind === 'missing') {
    if (options.certificatesOnly) out.error(`No certificate added: ${certificateName}: No such file or directory`);
    hintAtProblems(session, file.problems);
    return false;
  }
  const { key } = file.loaded;
  if (!equal(key.plainBlob, one.publicBlob)) {
    out.error(`Certificate ${certificateName} does not match private key ${one.name}`);
    return false;
  }
  const lifetime = certificateLifetime(session, key);
  if (lifetime === undefined) {
    out.error(`Certificate ${certificateName} has already expired; ignored`);
    out.hint('-N adds it all the same.');
    return false;
  }
  if (key.certificate === undefined) {
    out.error('add_file: sshkey_cert_copy: invalid argument');
    out.hint(`${certificateName} holds a plain public key, not a certificate.`);
    return false;
  }
  const keyId = shown(key.certificate.keyId);
  const added = { type: key.algorithm.certificateType, certificate: key.blob, fields: one.key.fields };
  try {
    await agent.add(added, one.comment, { ...constraintsOf(session, lifetime), ...one.skProvider });
  } catch (error) {
    out.error(`Certificate ${certificateName} (${keyId}) add failed: ${errorText(error)}`);
    hintAt(session, error);
    return false;
  }
  if (!options.quiet) {
    out.error(`Certificate added: ${certificateName} (${keyId})`);
    sayBounds(session, lifetime);
  }
  return true;
}

/**
 * Adds the key in `path` (`-`: standard input) and the certificate beside it. The key decides what is returned; with -C,
 * where OpenSSH always says that it failed, the certificate.
 */
export async function addFile(session: Session, path: string, cache: PassphraseCache): Promise<boolean> {
  const { options } = session;
  const source = path === '-' ? '(stdin)' : path;
  const name = shown(source);
  const content = await readFile(session, path, name);
  if (content === undefined) return false;
  let file: PrivateKeyFile | undefined;
  try {
    file = await decrypt(session, content, name, cache);
    if (file === undefined) return false;
    const { key, publicBlob, comment } = file;
    const skProvider = key.type.startsWith('sk-') ? { skProvider: options.skProvider } : {};
    const one = { key, publicBlob, name, comment: comment === '' ? source : comment, skProvider };
    const added = options.certificatesOnly ? undefined : await addPlain(session, one);
    if (options.keysOnly) return added === true;
    const certified = await addCertificate(session, source, one);
    return added ?? certified;
  } finally {
    content.fill(0);
    file?.wipe();
  }
}
