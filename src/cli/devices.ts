/** Joins the engine's devices to their backends: which library may be loaded, where the agent shows notices and asks for PINs. */
import { realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Devices, Log } from '../agent/ports.ts';
import { askSecret, showNotice } from '../backends/askpass.ts';
import { securityKeySigner } from '../backends/fido.ts';
import type { TokenProvider, TokenStatus } from '../backends/pkcs11.ts';
import { KeyError } from '../keys/error.ts';
import { allowsProvider, DEFAULT_PROVIDERS } from '../policy/providers.ts';
import { visible } from '../wire/visible.ts';

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
  if (!allowsProvider(allowed, real))
    throw new KeyError('unsupported', `provider ${visible(real, 256)} is not in the allowed list (ssh-agent -P)`);
  return real;
}

/** As Devices, and what `latchkey status` shows of tokens. */
export interface AgentDevices extends Devices {
  tokens(provider: string): readonly TokenStatus[];
  /** Looks again which tokens are there, for TOKEN_LOOK_MS at most: one that is slower stays as it was last seen. */
  lookAtTokens(providers: readonly string[]): Promise<void>;
}

/** Whoever asks for the status of the agent waits no longer for a device, in ms. */
const TOKEN_LOOK_MS = 2000;

/**
 * @param own the environment of helper programs: with nothing that Node or the linker would obey
 * @param env that of programs which ask a person
 * @param allowed the list of `ssh-agent -P`; undefined: OpenSSH's default
 */
export function createDevices(
  own: Environment,
  env: Environment,
  log: Log,
  allowed: string = DEFAULT_PROVIDERS,
): AgentDevices {
  const askPin = (prompt: string, signal: AbortSignal): Promise<Uint8Array | undefined> =>
    askSecret(prompt, env, signal);
  const helper = [process.execPath, ...process.execArgv, join(dirname(process.argv[1] ?? ''), 'pkcs11-helper.cjs')];
  // One object for as long as the agent lives: a provider that is added twice has one helper.
  const pkcs11Ports = { env: own, helper, askPin, log };
  const providers = new Map<string, TokenProvider>();
  return {
    provider: (path) => canonicalProvider(path, allowed),
    securityKey: (publicKey, fields, provider, custody) =>
      securityKeySigner(publicKey, fields, provider, custody, {
        env,
        log,
        notify: (text) => showNotice(text, env),
        askPin,
      }),
    async tokenKeys(path, pin) {
      // Its code is loaded when the first token comes: most agents never see one.
      const { openProvider } = await import('../backends/pkcs11.ts');
      const { provider, keys } = await openProvider(path, pin, pkcs11Ports);
      providers.set(path, provider);
      return keys;
    },
    tokens: (path) => providers.get(path)?.status() ?? [],
    async lookAtTokens(paths) {
      const looks = paths.map((path) =>
        providers
          .get(path)
          ?.refresh()
          .catch(() => {}),
      );
      let timer: NodeJS.Timeout | undefined;
      const limit = new Promise<void>((over) => {
        timer = setTimeout(over, TOKEN_LOOK_MS);
      });
      await Promise.race([Promise.all(looks), limit]);
      clearTimeout(timer);
    },
  };
}
