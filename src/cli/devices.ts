/** Joins the engine's devices to their backends: which library may be loaded, where the agent shows notices and asks for PINs. */
import { realpathSync } from 'node:fs';
import type { Devices, Log } from '../agent/ports.ts';
import { askSecret, showNotice } from '../backends/askpass.ts';
import { securityKeySigner } from '../backends/fido.ts';
import { KeyError } from '../keys/error.ts';
import { allowsProvider, DEFAULT_PROVIDERS, parseProviderPatterns } from '../policy/providers.ts';
import { visible } from '../wire/visible.ts';

const INTERNAL = 'internal';

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The provider's real path, which alone the allow-list is held against.
 * @throws KeyError where it does not exist or is not allowed
 */
function canonicalProvider(path: string, allowed: string): string {
  let real: string;
  try {
    real = realpathSync(path);
  } catch {
    throw new KeyError('unsupported', `provider ${visible(path, 256)}: no such file`);
  }
  const patterns = parseProviderPatterns(allowed);
  if (patterns === undefined || !allowsProvider(patterns, real))
    throw new KeyError('unsupported', `provider ${visible(real, 256)} is not in the allowed list (ssh-agent -P)`);
  return real;
}

/** @param allowed the list of `ssh-agent -P`; undefined: OpenSSH's default */
export function createDevices(env: Environment, log: Log, allowed: string = DEFAULT_PROVIDERS): Devices {
  return {
    securityKey(publicKey, fields, provider, custody) {
      const name = provider.toLowerCase() === INTERNAL ? INTERNAL : canonicalProvider(provider, allowed);
      return securityKeySigner(publicKey, fields, name, custody, {
        env,
        log,
        notify: (text) => showNotice(text, env),
        askPin: (prompt, signal) => askSecret(prompt, env, signal),
      });
    },
  };
}
