/** The one road to a signature (DESIGN, "One sign request"): find the key, decide, ask where due, look again, sign. */
import { decide, dependsOnData } from '../policy/decide.ts';
import type { Facts } from '../policy/facts.ts';
import type { Entry } from '../store/entry.ts';
import { copy } from '../wire/bytes.ts';
import type { Request } from '../wire/requests.ts';
import { encodeResponse } from '../wire/responses.ts';
import { classify } from '../wire/signeddata.ts';
import { visible } from '../wire/visible.ts';
import type { Answer } from './answers.ts';
import type { Session } from './session.ts';

type SignRequest = Extract<Request, { kind: 'sign' }>;

/** What an unconstrained key would be decided on does not depend on what is signed, so it is not looked at. */
const notLookedAt = Object.freeze({ kind: 'unidentified' as const });

function factsOf(session: Session, entry: Entry, data: Uint8Array): Facts {
  const { agent, bindings, peer } = session;
  const signed = dependsOnData(entry) ? classify(data) : notLookedAt;
  return Object.freeze({ entry, signed, bindings, peer, nowSeconds: agent.ports.clock.wallSeconds() });
}

export function signData(session: Session, { blob, data, flags }: SignRequest): Answer {
  const { agent } = session;
  agent.expire();
  const entry = agent.keyring.find(blob);
  if (entry === undefined) return session.refuse('sign: no such key');
  const decision = decide(factsOf(session, entry, data), agent.rules);
  switch (decision.effect) {
    case 'allow':
      return signWith(session, entry, data, flags);
    case 'deny':
      return session.refuse(`sign with ${visible(entry.comment, 64)}: ${decision.reason}`);
    case 'ask':
      return askThenSign(session, entry, copy(data), flags, decision.question);
    default:
      return decision satisfies never;
  }
}

function isOnDevice({ signer, provider }: Entry): boolean {
  return provider !== undefined || signer.publicKey.fields.application !== undefined;
}

/** What a device's touch is for, in OpenSSH's words. */
function purposeOf(data: Uint8Array): string | undefined {
  const signed = classify(data);
  return signed.kind === 'login'
    ? `public key authentication request for user "${visible(signed.user, 64)}"`
    : undefined;
}

function signWith(session: Session, entry: Entry, data: Uint8Array, flags: number): Answer {
  const { signer } = entry;
  // Only a device takes so long that it matters whether somebody still waits.
  const signature = isOnDevice(entry)
    ? signer.sign(data, flags, session.closed, purposeOf(data))
    : signer.sign(data, flags);
  if (signature instanceof Uint8Array) return encodeResponse({ kind: 'signature', signature });
  const { agent } = session;
  return signature.then((made) => {
    // The agent may have been locked, or the key removed, while another thread was signing. One that was added again
    // meanwhile is not gone: it was permitted when it was asked for, as with an agent that does one thing at a time.
    agent.expire();
    if (agent.lock.locked || agent.keyring.find(entry.signer.publicKey.blob) === undefined)
      return session.refuse('sign: the key is gone');
    return encodeResponse({ kind: 'signature', signature: made });
  });
}

async function askThenSign(
  session: Session,
  entry: Entry,
  data: Uint8Array,
  flags: number,
  question: string,
): Promise<Uint8Array> {
  const { agent } = session;
  if (!(await agent.confirm(question, session.closed)))
    return session.refuse(`sign with ${visible(entry.comment, 64)}: not confirmed`);
  // While a person thought, the key may have expired or gone, the agent locked, or the connection bound to another host.
  agent.expire();
  if (session.closed.aborted || agent.lock.locked || !agent.keyring.has(entry))
    return session.refuse('sign: the key is gone');
  if (decide(factsOf(session, entry, data), agent.rules).effect === 'deny')
    return session.refuse('sign: no longer permitted');
  return signWith(session, entry, data, flags);
}
