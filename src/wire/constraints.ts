/**
 * What a key may be bound to when it is added (RFC 9987 section 3.2.7 and OpenSSH's PROTOCOL.agent). An unknown or
 * repeated constraint refuses the whole request: a key with fewer bounds than its owner asked for is worse than no key.
 */
import { WireError } from './error.ts';
import type { Reader } from './reader.ts';
import type { Writer } from './writer.ts';

export const CONSTRAIN_LIFETIME = 1;
export const CONSTRAIN_CONFIRM = 2;
/** XMSS only; nothing that we hold can count its signatures, so it is refused like an unknown one. */
export const CONSTRAIN_MAXSIGN = 3;
export const CONSTRAIN_EXTENSION = 255;

export const SK_PROVIDER = 'sk-provider@openssh.com';
export const RESTRICT_DESTINATION = 'restrict-destination-v00@openssh.com';
export const ASSOCIATED_CERTIFICATES = 'associated-certs-v00@openssh.com';

/** OpenSSH's AGENT_MAX_DEST_CONSTRAINTS. */
export const MAX_DESTINATIONS = 1024;
/** OpenSSH bounds the keys of one hop only by the message; so many host keys for one name are a mistake or an attack. */
export const MAX_HOP_KEYS = 1024;
/** OpenSSH's AGENT_MAX_EXT_CERTS. */
export const MAX_ASSOCIATED_CERTIFICATES = 1024;
/** OpenSSH 10.4: longer user patterns made matching expensive. */
export const MAX_USER_PATTERN_BYTES = 256;
export const MAX_HOSTNAME_BYTES = 1025;
export const MAX_PROVIDER_BYTES = 4096;

export interface HopKey {
  readonly blob: Uint8Array;
  readonly isAuthority: boolean;
}

/** One end of a permitted step: the empty host name with no keys stands for "here". */
export interface Hop {
  /** A pattern with * and ?; empty: any. */
  readonly user: string;
  readonly hostname: string;
  readonly keys: readonly HopKey[];
}

export interface DestinationConstraint {
  readonly from: Hop;
  readonly to: Hop;
}

export interface AssociatedCertificates {
  readonly certificatesOnly: boolean;
  readonly blobs: readonly Uint8Array[];
}

export interface Constraints {
  /** Seconds; 0 expires at once. */
  readonly lifetime?: number;
  readonly confirm?: true;
  /** At least one. */
  readonly destinations?: readonly DestinationConstraint[];
  readonly skProvider?: string;
  /** Only in a request to add a token's keys. */
  readonly associatedCertificates?: AssociatedCertificates;
}

export const noConstraints: Constraints = Object.freeze({});

function decodeHop(reader: Reader, field: string): Hop {
  // Exact: with U+FFFD for what is not UTF-8, a pattern for one user would fit another.
  const user = reader.exactText(`${field}.user`, MAX_USER_PATTERN_BYTES);
  const hostname = reader.exactText(`${field}.hostname`, MAX_HOSTNAME_BYTES);
  if (reader.string(`${field}.reserved`).length > 0) throw new WireError('bad-value', `${field}.reserved`);
  const keys: HopKey[] = [];
  while (reader.remaining > 0) {
    if (keys.length === MAX_HOP_KEYS) throw new WireError('too-long', `${field}.keys`, `at most ${MAX_HOP_KEYS}`);
    const blob = Uint8Array.prototype.slice.call(reader.string(`${field}.key`));
    keys.push({ blob, isAuthority: reader.bool(`${field}.is_ca`) });
  }
  return { user, hostname, keys };
}

function decodeDestination(reader: Reader): DestinationConstraint {
  const from = decodeHop(reader.child('from'), 'from');
  const to = decodeHop(reader.child('to'), 'to');
  if (reader.string('constraint.reserved').length > 0) throw new WireError('bad-value', 'constraint.reserved');
  reader.end('constraint');
  if (from.user !== '') throw new WireError('bad-value', 'from.user');
  if ((from.hostname === '') !== (from.keys.length === 0)) throw new WireError('bad-value', 'from');
  if (to.hostname === '' || to.keys.length === 0) throw new WireError('bad-value', 'to');
  return { from, to };
}

function decodeDestinations(reader: Reader): DestinationConstraint[] {
  const list: DestinationConstraint[] = [];
  while (reader.remaining > 0) {
    if (list.length === MAX_DESTINATIONS)
      throw new WireError('too-long', RESTRICT_DESTINATION, `at most ${MAX_DESTINATIONS}`);
    list.push(decodeDestination(reader.child('constraint')));
  }
  // OpenSSH takes an empty list and stores an unconstrained key; whoever sends one asked for a bound key.
  if (list.length === 0) throw new WireError('bad-value', RESTRICT_DESTINATION, 'no destination');
  return list;
}

function decodeAssociatedCertificates(reader: Reader): AssociatedCertificates {
  const certificatesOnly = reader.bool('certs_only');
  const inner = reader.child(ASSOCIATED_CERTIFICATES);
  const blobs: Uint8Array[] = [];
  while (inner.remaining > 0) {
    if (blobs.length === MAX_ASSOCIATED_CERTIFICATES)
      throw new WireError('too-long', ASSOCIATED_CERTIFICATES, `at most ${MAX_ASSOCIATED_CERTIFICATES}`);
    blobs.push(Uint8Array.prototype.slice.call(inner.string('certificate')));
  }
  return { certificatesOnly, blobs };
}

/**
 * Reads constraints to the end of `reader`. Byte arrays in the result are copies.
 * @param forToken whether the request adds a token's keys: associated certificates are for these alone
 * @throws WireError
 */
export function decodeConstraints(reader: Reader, forToken = false): Constraints {
  const found: {
    lifetime?: number;
    confirm?: true;
    destinations?: readonly DestinationConstraint[];
    skProvider?: string;
    associatedCertificates?: AssociatedCertificates;
  } = {};
  const once = (given: unknown, name: string): void => {
    if (given !== undefined) throw new WireError('repeated-constraint', name);
  };
  while (reader.remaining > 0) {
    const type = reader.u8('constraint');
    if (type === CONSTRAIN_LIFETIME) {
      once(found.lifetime, 'lifetime');
      found.lifetime = reader.u32('lifetime');
    } else if (type === CONSTRAIN_CONFIRM) {
      once(found.confirm, 'confirm');
      found.confirm = true;
    } else if (type === CONSTRAIN_EXTENSION) {
      const name = reader.text('constraint name');
      if (name === SK_PROVIDER) {
        once(found.skProvider, name);
        found.skProvider = reader.exactText(name, MAX_PROVIDER_BYTES);
      } else if (name === RESTRICT_DESTINATION) {
        once(found.destinations, name);
        found.destinations = decodeDestinations(reader.child(name));
      } else if (name === ASSOCIATED_CERTIFICATES && forToken) {
        once(found.associatedCertificates, name);
        found.associatedCertificates = decodeAssociatedCertificates(reader);
      } else throw new WireError('unknown-constraint', 'constraint');
    } else throw new WireError('unknown-constraint', 'constraint', String(type));
  }
  return found;
}

function encodeHop(writer: Writer, hop: Hop): void {
  writer.text(hop.user).text(hop.hostname).text('');
  for (const key of hop.keys) writer.string(key.blob).bool(key.isAuthority);
}

/** @throws WireError for an empty list of destinations: OpenSSH's agent would hold such a key unconstrained */
export function encodeConstraints(writer: Writer, constraints: Constraints): void {
  if (constraints.lifetime !== undefined) writer.u8(CONSTRAIN_LIFETIME).u32(constraints.lifetime);
  if (constraints.confirm) writer.u8(CONSTRAIN_CONFIRM);
  if (constraints.skProvider !== undefined)
    writer.u8(CONSTRAIN_EXTENSION).text(SK_PROVIDER).text(constraints.skProvider);
  const { destinations, associatedCertificates } = constraints;
  if (destinations !== undefined) {
    if (destinations.length === 0) throw new WireError('bad-value', RESTRICT_DESTINATION, 'no destination');
    writer
      .u8(CONSTRAIN_EXTENSION)
      .text(RESTRICT_DESTINATION)
      .nested((list) => {
        for (const { from, to } of destinations)
          list.nested((one) => {
            one
              .nested((w) => encodeHop(w, from))
              .nested((w) => encodeHop(w, to))
              .text('');
          });
      });
  }
  if (associatedCertificates !== undefined) {
    writer
      .u8(CONSTRAIN_EXTENSION)
      .text(ASSOCIATED_CERTIFICATES)
      .bool(associatedCertificates.certificatesOnly)
      .nested((w) => {
        for (const blob of associatedCertificates.blobs) w.string(blob);
      });
  }
}

/** Whether anything is constrained: such a key goes in a constrained request. */
export function isConstrained(constraints: Constraints): boolean {
  return Object.values(constraints).some((value) => value !== undefined);
}
