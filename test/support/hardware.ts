/** For tests of keys in hardware behind the built agent: a person at askpass, keys as files, helpers that run, why not. */
import { createHash, generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { raw, str } from '../unit/wire/build.ts';
import { blobOf } from './pkcs11.ts';
import { children } from './securitykey.ts';

/** Notes what is asked; a notice stays until it is ended, a PIN is the content of a file, consent is a file. */
const ASKPASS = `#!/bin/sh
here=$(dirname "$0")
printf '%s\\0' "$SSH_ASKPASS_PROMPT:$1" >>"$here/asked"
case "$SSH_ASKPASS_PROMPT" in
none) exec sleep 1000 ;;
confirm) exec test -e "$here/yes" ;;
*) exec cat "$here/pin" ;;
esac
`;

/** Who is asked by an agent or by ssh-add. */
export class AskpassPerson {
  readonly #folder: string;
  readonly env: Readonly<Record<string, string>>;

  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder);
    const program = join(folder, 'askpass');
    writeFileSync(program, ASKPASS);
    chmodSync(program, 0o700);
    this.env = { SSH_ASKPASS: program, SSH_ASKPASS_REQUIRE: 'force' };
    this.consents(true);
  }

  consents(yes: boolean): void {
    if (yes) writeFileSync(join(this.#folder, 'yes'), '');
    else rmSync(join(this.#folder, 'yes'), { force: true });
  }

  /** Undefined: nobody answers. */
  types(pin: string | undefined): void {
    if (pin === undefined) rmSync(join(this.#folder, 'pin'), { force: true });
    else writeFileSync(join(this.#folder, 'pin'), `${pin}\n`);
  }

  /** Hint and question of each, since the last call. */
  asked(): readonly string[] {
    const file = join(this.#folder, 'asked');
    const all = existsSync(file) ? readFileSync(file, 'utf8').split('\0').slice(0, -1) : [];
    rmSync(file, { force: true });
    return all;
  }
}

export interface PublicFile {
  readonly file: string;
  readonly blob: Uint8Array;
  /** 'ssh-ed25519 AAAA...' */
  readonly line: string;
  readonly fingerprint: string;
}

/** Writes a public key that is elsewhere, as a file that ssh, ssh-add and ssh-keygen take. */
export function publicFile(folder: string, name: string, blob: Uint8Array): PublicFile {
  const bytes = Buffer.from(blob);
  const line = `${bytes.toString('latin1', 4, 4 + bytes.readUInt32BE())} ${bytes.toString('base64')}`;
  const file = join(folder, `${name}.pub`);
  writeFileSync(file, `${line} ${name}\n`);
  const hash = createHash('sha256').update(blob).digest('base64').replace(/=+$/, '');
  return { file, blob, line, fingerprint: `SHA256:${hash}` };
}

/** Programs for tokens and security keys that the agent runs, zombies among them. */
export const helpersOf = (pid: number): readonly number[] =>
  children(pid).flatMap(({ pid: child, name }) => (name === 'askpass' || name === 'sleep' ? [] : [child]));

/** A session-bind of a fresh host. */
export function bindMessage(isForwarding: boolean): Uint8Array {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const session = new Uint8Array(randomBytes(32));
  const signature = raw(str('ssh-ed25519'), str(new Uint8Array(sign(null, session, privateKey))));
  const body = [str(blobOf(publicKey)), str(session), str(signature), isForwarding ? 1 : 0];
  return raw(27, str('session-bind@openssh.com'), ...body);
}
