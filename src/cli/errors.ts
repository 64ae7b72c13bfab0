/** OpenSSH's words for what went wrong (ssherr.c), and the C library's for errors of the system, since scripts match both. */
import { getSystemErrorMap } from 'node:util';
import { AgentError } from '../client/error.ts';
import { KeyError } from '../keys/error.ts';
import { WireError } from '../wire/error.ts';

const systemTexts: Readonly<Record<string, string>> = {
  EACCES: 'Permission denied',
  ECONNREFUSED: 'Connection refused',
  EIO: 'Input/output error',
  EISDIR: 'Is a directory',
  ELOOP: 'Too many levels of symbolic links',
  EMFILE: 'Too many open files',
  ENAMETOOLONG: 'File name too long',
  ENODEV: 'No such device',
  ENOENT: 'No such file or directory',
  ENOTDIR: 'Not a directory',
  ENXIO: 'No such device or address',
  EPERM: 'Operation not permitted',
  EPROTOTYPE: 'Protocol wrong type for socket',
};

/** strerror's text for an error of node:fs or node:net. */
export function systemErrorText(error: unknown): string {
  const { code, errno } = error as NodeJS.ErrnoException;
  const known = code === undefined ? undefined : systemTexts[code];
  if (known !== undefined) return known;
  const text = errno === undefined ? undefined : getSystemErrorMap().get(errno)?.[1];
  return text === undefined ? (code ?? 'unknown error') : text.charAt(0).toUpperCase() + text.slice(1);
}

function keyErrorText(error: KeyError): string {
  switch (error.code) {
    case 'unknown-type':
      return 'unknown or unsupported key type';
    case 'unsupported':
      return 'requested feature not supported';
    case 'malformed':
    case 'mismatch':
      return 'invalid format';
    case 'out-of-bounds':
      return 'Invalid key length';
    case 'bad-signature':
      return 'incorrect signature';
    case 'wrong-passphrase':
    case 'needs-passphrase':
      return 'incorrect passphrase supplied to decrypt private key';
    case 'full':
      return 'memory allocation failed';
    case 'sealed':
    case 'internal':
      return 'error in libcrypto';
    default:
      return error.code satisfies never;
  }
}

function agentErrorText(error: AgentError): string {
  switch (error.code) {
    case 'refused':
    case 'extension-failure':
      return 'agent refused operation';
    case 'communication':
      return 'communication with agent failed';
    case 'bad-reply':
    case 'too-large':
      return 'invalid format';
    case 'no-agent':
      return 'agent not present';
    default:
      return error.code satisfies never;
  }
}

/** OpenSSH's text for `error`. */
export function errorText(error: unknown): string {
  if (error instanceof KeyError) return keyErrorText(error);
  if (error instanceof AgentError) return agentErrorText(error);
  if (error instanceof WireError) return 'invalid format';
  return systemErrorText(error);
}

/** What our own error says beyond OpenSSH's text, or undefined where it says no more. */
export function errorDetail(error: unknown): string | undefined {
  if (error instanceof KeyError && error.code !== 'wrong-passphrase') return error.message;
  if (error instanceof AgentError && error.code !== 'refused') return error.message;
  return undefined;
}
