/** fast-check arbitraries of everything that the wire floor can say, in the form that its decoders give back. */
import fc from 'fast-check';
import type { Constraints, DestinationConstraint, HopKey } from '../../../src/wire/constraints.ts';
import type { SessionBind } from '../../../src/wire/extensions.ts';
import { type Field, keyShapes } from '../../../src/wire/keyshapes.ts';
import type { AddedKey, Request } from '../../../src/wire/requests.ts';
import type { Response } from '../../../src/wire/responses.ts';

export const bytes = (maxLength = 40): fc.Arbitrary<Uint8Array> => fc.uint8Array({ maxLength });

/** Text that has one form only: no NUL, which a decoder drops or refuses. */
export const text = (maxLength = 20, minLength = 0): fc.Arbitrary<string> =>
  fc.string({ unit: 'binary', minLength, maxLength }).map((value) => value.replaceAll('\u0000', '-'));

const pin = bytes().map((value) => value.map((byte) => byte || 1));
const magnitude = bytes().filter((value) => value[0] !== 0);
const u32 = fc.integer({ min: 0, max: 0xffffffff });

const hopKeys = (minLength: number): fc.Arbitrary<readonly HopKey[]> =>
  fc.array(fc.record({ blob: bytes(), isAuthority: fc.boolean() }), { minLength, maxLength: 3 });

const named = { hostname: text(20, 1), keys: hopKeys(1) };
const destination: fc.Arbitrary<DestinationConstraint> = fc.record({
  from: fc.oneof(fc.constant({ user: '', hostname: '', keys: [] }), fc.record({ user: fc.constant(''), ...named })),
  to: fc.record({ user: text(), ...named }),
});

export const constraints = (forToken: boolean): fc.Arbitrary<Constraints> =>
  fc.record(
    {
      lifetime: u32,
      confirm: fc.constant(true as const),
      destinations: fc.array(destination, { minLength: 1, maxLength: 3 }),
      skProvider: text(),
      ...(forToken
        ? {
            associatedCertificates: fc.record({
              certificatesOnly: fc.boolean(),
              blobs: fc.array(bytes(), { maxLength: 3 }),
            }),
          }
        : {}),
    },
    { requiredKeys: [], noNullPrototype: true },
  );

function fieldValues(fields: readonly Field[]): fc.Arbitrary<Record<string, Uint8Array>> {
  const entries = fields.map(({ name, kind }): [string, fc.Arbitrary<Uint8Array>] => {
    if (kind === 'mpint') return [name, magnitude];
    if (kind === 'u8') return [name, fc.uint8Array({ minLength: 1, maxLength: 1 })];
    return [name, bytes()];
  });
  return fc.record(Object.fromEntries(entries), { noNullPrototype: true }) as fc.Arbitrary<Record<string, Uint8Array>>;
}

export const addedKey: fc.Arbitrary<AddedKey> = fc.oneof(
  ...keyShapes.flatMap((shape): fc.Arbitrary<AddedKey>[] => [
    fc.record({ type: fc.constant(shape.type), fields: fieldValues(shape.addFields) }, { noNullPrototype: true }),
    fc.record(
      {
        type: fc.constant(shape.certificateType),
        certificate: bytes(),
        fields: fieldValues(shape.addWithCertificateFields),
      },
      { noNullPrototype: true },
    ),
  ]),
);

export const sessionBind: fc.Arbitrary<SessionBind> = fc.record({
  hostKey: bytes(),
  sessionId: bytes(128),
  signature: bytes(),
  isForwarding: fc.boolean(),
});

const kind = <K extends string>(name: K): fc.Arbitrary<K> => fc.constant(name);
const served = new Set([9, 11, 13, 17, 18, 19, 20, 21, 22, 23, 25, 26, 27]);

export const request: fc.Arbitrary<Request> = fc.oneof(
  fc.record({ kind: kind('list') }),
  fc.record({ kind: kind('sign'), blob: bytes(), data: bytes(), flags: u32 }),
  fc.record({ kind: kind('add'), key: addedKey, comment: text(), constraints: constraints(false) }),
  fc.record({ kind: kind('remove'), blob: bytes() }),
  fc.record({ kind: kind('removeAll'), version: fc.constantFrom(1 as const, 2 as const) }),
  fc.record({ kind: kind('addToken'), provider: text(), pin, constraints: constraints(true) }),
  fc.record({ kind: kind('removeToken'), provider: text(), pin }),
  fc.record({ kind: kind('lock'), passphrase: pin }),
  fc.record({ kind: kind('unlock'), passphrase: pin }),
  fc.record({ kind: kind('extension'), name: text(), body: bytes() }),
  fc.record({
    kind: kind('unknown'),
    number: fc.integer({ min: 0, max: 255 }).filter((number) => !served.has(number)),
  }),
);

export const response: fc.Arbitrary<Response> = fc.oneof(
  fc.record({ kind: kind('failure') }),
  fc.record({ kind: kind('success') }),
  fc.record({
    kind: kind('identities'),
    identities: fc.array(fc.record({ blob: bytes(), comment: text() }), { maxLength: 5 }),
  }),
  fc.record({ kind: kind('signature'), signature: bytes() }),
  fc.record({ kind: kind('extensionFailure') }),
  fc.record({ kind: kind('extensionResponse'), name: text(), body: bytes() }),
);
