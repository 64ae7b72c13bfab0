/** A folder of keys, certificates, broken files and a token, made by OpenSSH's and SoftHSM's own programs. */
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const folder = mkdtempSync(join(tmpdir(), 'latchkey-ssh-add-'));

export const env: Readonly<Record<string, string>> = {
  PATH: '/usr/bin:/bin',
  HOME: folder,
  SOFTHSM2_CONF: join(folder, 'softhsm.conf'),
};

/** SoftHSM's library, for a token with one RSA key and the PIN 1234. */
export const HSM = '/usr/lib/softhsm/libsofthsm2.so';

export function removeFolder(): void {
  rmSync(folder, { recursive: true, force: true });
}

export function keygen(...args: readonly string[]): void {
  const { status, stderr } = spawnSync('/usr/bin/ssh-keygen', ['-q', ...args], { cwd: folder, encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
}

export function write(name: string, content: string, mode = 0o600): void {
  writeFileSync(join(folder, name), content);
  chmodSync(join(folder, name), mode);
}

export function read(name: string): string {
  return readFileSync(join(folder, name), 'utf8');
}

export function makeFiles(): void {
  keygen('-t', 'ed25519', '-N', '', '-C', 'my comment', '-f', 'id');
  for (const bits of ['256', '384', '521']) keygen('-t', 'ecdsa', '-b', bits, '-N', '', '-C', bits, '-f', `ec${bits}`);
  keygen('-t', 'rsa', '-b', '2048', '-N', '', '-C', 'rsa comment', '-f', 'rsa');
  keygen('-t', 'ed25519', '-N', 'secret', '-C', 'enc comment', '-f', 'enc');
  keygen('-t', 'ecdsa', '-N', 'secret', '-C', 'second', '-f', 'enc2');
  keygen('-t', 'ed25519', '-N', 'other', '-C', 'third', '-f', 'enc3');
  keygen('-t', 'rsa', '-b', '2048', '-m', 'PEM', '-N', '', '-C', 'lost', '-f', 'pem');
  keygen('-t', 'rsa', '-b', '2048', '-m', 'PEM', '-N', 'secret', '-C', 'lost', '-f', 'pemenc');
  rmSync(join(folder, 'pem.pub'));
  keygen('-t', 'ed25519', '-N', '', '-C', 'ca', '-f', 'ca');
  for (const name of ['cid', 'cec256', 'cec384', 'cec521', 'crsa', 'old', 'alien', 'plain', 'bent']) {
    copyFileSync(join(folder, name.startsWith('c') ? name.slice(1) : 'id'), join(folder, name));
  }
  for (const name of ['cid', 'cec256', 'cec384', 'cec521', 'crsa']) {
    copyFileSync(join(folder, `${name.slice(1)}.pub`), join(folder, `${name}.pub`));
    keygen('-s', 'ca', '-I', `keyid of ${name}`, '-n', 'alice', `${name}.pub`);
  }
  copyFileSync(join(folder, 'id.pub'), join(folder, 'old.pub'));
  keygen('-s', 'ca', '-I', 'old id', '-n', 'alice', '-V', '20200101:20200102', 'old.pub');
  copyFileSync(join(folder, 'crsa-cert.pub'), join(folder, 'alien-cert.pub'));
  copyFileSync(join(folder, 'id.pub'), join(folder, 'plain-cert.pub'));
  write('bent-cert.pub', 'ssh-ed25519-cert-v01@openssh.com AAAA bent\n', 0o644);
  write('junk', 'junk\n');
  write('empty', '');
  write('cut', read('id').slice(0, 200));
  copyFileSync(join(folder, 'id'), join(folder, 'open'));
  chmodSync(join(folder, 'open'), 0o644);
  copyFileSync(join(folder, 'id'), join(folder, 'only-private'));
  write('crlf', read('id').replaceAll('\n', '\r\n'));
  mkdirSync(join(folder, 'dir'), { mode: 0o700 });
  write('sneaky\x1b[2J', read('id'));
  write(
    'known_hosts',
    `one.example,two.example ${read('ec256.pub')}@cert-authority *.example ${read('ca.pub')}[port.example]:2222 ${read('id.pub')}`,
  );
  mkdirSync(join(folder, 'tokens'));
  write('teller', '#!/bin/sh\necho "$1$SSH_ASKPASS_PROMPT" >&2\necho secret\necho more\n', 0o700);
  write('secret', '#!/bin/sh\nprintf secret\n', 0o700);
  write('softhsm.conf', `directories.tokendir = ${join(folder, 'tokens')}\nlog.level = ERROR\n`);
  const softhsm = (...args: readonly string[]): void => {
    const { status, stderr } = spawnSync('softhsm2-util', args, { env, encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr);
  };
  softhsm('--init-token', '--free', '--label', 'token', '--pin', '1234', '--so-pin', '1234');
  spawnSync('/usr/bin/openssl', ['pkcs8', '-topk8', '-nocrypt', '-in', 'pem', '-out', 'pem.p8'], { cwd: folder });
  softhsm('--import', join(folder, 'pem.p8'), '--token', 'token', '--label', 'hsm key', '--id', '01', '--pin', '1234');
}
