/** Reads test/vectors/sessions: the requests of real clients, connection by connection, and what is known about them. */
import { readFileSync } from 'node:fs';
import { decodeRequest, type Request } from '../../../src/wire/requests.ts';

const folder = new URL('../../vectors/sessions/', import.meta.url);

export const LOGINS = [
  'login-ed25519',
  'login-rsa-unbound',
  'login-ecdsa-rsa-host',
  'login-certificates',
  'hop-a-b',
  'hop-a-b-d',
] as const;
export const RECORDED = [...LOGINS, 'sshsig-git', 'certificate-user', 'certificate-host', 'sudo'] as const;

export interface Facts {
  readonly connections: readonly (readonly number[])[];
  readonly answers: readonly (readonly number[])[];
  /** Per connection; null where it was not written down. */
  readonly binds?: readonly (readonly { hostKey: string; forwarding: boolean }[] | null)[];
  /** Base64 of the key that was to sign. */
  readonly key: string;
  readonly user: string;
  readonly algorithm: string;
  readonly method: string;
  /** Base64, of the host logged in to, per connection. */
  readonly hostKeys?: readonly (string | null)[];
  readonly hostKey?: string | null;
  readonly [other: string]: unknown;
}

export interface Recorded {
  readonly facts: Facts;
  readonly connections: readonly (readonly Request[])[];
}

export function recorded(name: string): Recorded {
  const facts = JSON.parse(readFileSync(new URL(`${name}.json`, folder), 'utf8')) as Facts;
  const bytes = readFileSync(new URL(`${name}.bin`, folder));
  let at = 0;
  const connections = facts.connections.map((numbers) =>
    numbers.map((number) => {
      const end = at + 4 + bytes.readUInt32BE(at);
      const message = new Uint8Array(bytes.subarray(at + 4, end));
      at = end;
      if (message[0] !== number) throw new Error(`${name}: message ${message[0]} where ${number} was written down`);
      return decodeRequest(message);
    }),
  );
  if (at !== bytes.length) throw new Error(`${name}: left-over bytes`);
  return { facts, connections };
}

/** What was to be signed, connection by connection; undefined where nothing was. */
export function signedIn(session: Recorded): readonly (Uint8Array | undefined)[] {
  return session.connections.map((requests) => {
    for (const request of requests) if (request.kind === 'sign') return request.data;
    return undefined;
  });
}

export function fromBase64Text(value: string): Uint8Array {
  return new Uint8Array(Buffer.from(value, 'base64'));
}
