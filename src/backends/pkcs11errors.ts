/** What a provider's failures are called in the agent's log and in `ssh-agent -d`: words of others are made visible. */
import { KeyError } from '../keys/error.ts';
import { visible } from '../wire/visible.ts';
import type { HelperProcessError } from './pkcs11process.ts';
import type { HelperAnswer, TokenState } from './pkcs11protocol.ts';

export type Failure = Extract<HelperAnswer, { kind: 'failure' }>;

/** A token's label, in quotation marks. */
export function named(token: TokenState | undefined): string {
  return `"${visible(token?.label ?? '')}"`;
}

/** No answer came. */
export function processError(path: string, { code, message }: HelperProcessError): KeyError {
  const unserved = code === 'withdrawn' ? message : `PKCS#11 provider ${visible(path)}: ${message}`;
  return new KeyError('internal', unserved);
}

/** The answer was a failure. */
export function failureError(path: string, { code, text, tokens: [token] }: Failure): KeyError {
  const provider = visible(path);
  switch (code) {
    case 'not-a-provider':
      return new KeyError('unsupported', `${provider} is no PKCS#11 provider: ${visible(text)}`);
    case 'unloadable':
      return new KeyError('unsupported', `${provider} could not be loaded: ${visible(text)}`);
    case 'pin-needed':
      return new KeyError('needs-passphrase', `token ${named(token)} wants its PIN: ${visible(text)}`);
    case 'wrong-pin':
      return new KeyError('wrong-passphrase', `wrong PIN for token ${named(token)}`);
    case 'pin-locked':
      return new KeyError('wrong-passphrase', `the PIN of token ${named(token)} is locked after too many wrong ones`);
    case 'gone':
    case 'device':
    case 'failed':
    case 'malformed':
      return new KeyError('internal', `PKCS#11 provider ${provider}: ${visible(text)}`);
    default:
      return code satisfies never;
  }
}
