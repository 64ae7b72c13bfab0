/** Hosts for the tests of policy: Ed25519 host keys, certificates and bindings, made byte by byte with node:crypto alone. */
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import type { Bindings } from '../../../src/policy/bindings.ts';
import { bind, noBindings } from '../../../src/policy/bindings.ts';
import type { DestinationConstraint, Hop } from '../../../src/wire/constraints.ts';
import type { SessionBind } from '../../../src/wire/extensions.ts';
import { fill, raw, str, u32, u64 } from '../wire/build.ts';

/** The time of all these tests, in seconds since 1970. */
export const NOW = 1_800_000_000;

export interface Host {
  readonly name: string;
  /** What it shows: a plain key, or a certificate over it. */
  readonly blob: Uint8Array;
  readonly plainBlob: Uint8Array;
  readonly privateKey: KeyObject;
}

export function makeHost(name: string): Host {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const point = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
  const blob = raw(str('ssh-ed25519'), str(point));
  return { name, blob, plainBlob: blob, privateKey };
}

export function signWith(host: Host, data: Uint8Array): Uint8Array {
  return raw(str('ssh-ed25519'), str(sign(null, data, host.privateKey)));
}

export interface CertificateChange {
  readonly kind?: 1 | 2;
  readonly principals?: readonly string[];
  readonly validAfter?: bigint;
  readonly validBefore?: bigint;
  readonly criticalOption?: string;
}

/** `host` with a certificate by `authority`; by default a host certificate for its name, valid around NOW. */
export function certify(host: Host, authority: Host, change: CertificateChange = {}): Host {
  const { kind = 2, principals = [host.name], validAfter = BigInt(NOW - 60), validBefore = BigInt(NOW + 60) } = change;
  const options = change.criticalOption === undefined ? raw() : raw(str(change.criticalOption), str(''));
  const body = raw(
    ...[str('ssh-ed25519-cert-v01@openssh.com'), str(fill(32, 7)), str(host.plainBlob.subarray(-32))],
    ...[u64(1n), u32(kind), str('id'), str(...principals.map((name) => str(name)))],
    ...[u64(validAfter), u64(validBefore), str(options), str(''), str(''), str(authority.plainBlob)],
  );
  return { ...host, blob: raw(body, str(signWith(authority, body))) };
}

let sessions = 0;

/** A session identifier that no other test has. */
export function newSession(): Uint8Array {
  return raw(fill(28, 0x5e), u32(++sessions));
}

export function bindTo(host: Host, isForwarding: boolean, sessionId: Uint8Array = newSession()): SessionBind {
  return { hostKey: host.blob, sessionId, signature: signWith(host, sessionId), isForwarding };
}

/** Binds in order; throws where one is not accepted. */
export function bound(...requests: readonly SessionBind[]): Bindings {
  let bindings = noBindings;
  for (const request of requests) {
    const result = bind(bindings, request);
    if (!result.accepted) throw new Error(result.reason);
    bindings = result.bindings;
  }
  return bindings;
}

const nowhere: Hop = { user: '', hostname: '', keys: [] };

/** The hop of `host` with its plain key, or with `authority` in place of it. */
export function hop(host: Host, user = '', authority?: Host): Hop {
  const key = authority === undefined ? host.plainBlob : authority.plainBlob;
  return { user, hostname: host.name, keys: [{ blob: key, isAuthority: authority !== undefined }] };
}

export function constraint(from: Hop | undefined, to: Hop): DestinationConstraint {
  return { from: from ?? nowhere, to };
}

export interface LoginChange {
  readonly user?: string;
  readonly sessionId?: Uint8Array;
  /** null: the method that names no host key. */
  readonly hostKey?: Uint8Array | null;
}

/** The data of a login with `key`, as ssh makes it for `request`'s session. */
export function loginData(key: Uint8Array, request: SessionBind, change: LoginChange = {}): Uint8Array {
  const { user = 'alice', sessionId = request.sessionId, hostKey = request.hostKey } = change;
  const method = hostKey === null ? 'publickey' : 'publickey-hostbound-v00@openssh.com';
  return raw(
    ...[str(sessionId), 50, str(user), str('ssh-connection'), str(method), 1, str('ssh-ed25519'), str(key)],
    ...(hostKey === null ? [] : [str(hostKey)]),
  );
}
