/** What a signature is for, in the words of rules and records: what was asked for, and whether its session is proven. */
import { loginFitsBindings } from './destination.ts';
import type { Facts, Purpose } from './facts.ts';

/**
 * A login counts as one only where the last binding proves its session: it must be for that session, and that session must
 * be for a login and not for forwarding. From afar the login has to name its host key too: whoever binds there may do so
 * with a host of their own for a session that leads elsewhere.
 */
export function purposeOf({ signed, bindings, forwarded }: Pick<Facts, 'signed' | 'bindings' | 'forwarded'>): Purpose {
  if (signed.kind !== 'login') return signed.kind;
  if (bindings.list.at(-1)?.forwarded !== false) return 'blind-login';
  if (forwarded && signed.hostKey === undefined) return 'blind-login';
  return loginFitsBindings(signed, bindings).ok ? 'login' : 'blind-login';
}
