import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Constraints,
  decodeConstraints,
  encodeConstraints,
  isConstrained,
  MAX_ASSOCIATED_CERTIFICATES,
  MAX_DESTINATIONS,
  MAX_HOP_KEYS,
  MAX_HOSTNAME_BYTES,
  MAX_PROVIDER_BYTES,
  MAX_USER_PATTERN_BYTES,
  noConstraints,
} from '../../../src/wire/constraints.ts';
import { Reader } from '../../../src/wire/reader.ts';
import { Writer } from '../../../src/wire/writer.ts';
import { constraints } from './arbitraries.ts';
import { fill, letters, type Part, raw, str, u32 } from './build.ts';
import { expectWireError } from './thrown.ts';

const decode = (bytes: Uint8Array, forToken = false): Constraints => decodeConstraints(new Reader(bytes), forToken);
const encode = (value: Constraints): Uint8Array => {
  const writer = new Writer();
  encodeConstraints(writer, value);
  return writer.finish();
};

const extension = (name: string, ...body: readonly Part[]): Uint8Array => raw(255, str(name), ...body);
const key = (blob: string, authority = 0): Uint8Array => raw(str(blob), authority);
const hop = (user: Part, host: Part, ...keys: readonly Uint8Array[]): Uint8Array =>
  raw(str(user), str(host), str(), ...keys);
const step = (from: Uint8Array, to: Uint8Array, ...more: readonly Part[]): Uint8Array =>
  str(str(from), str(to), str(), ...more);
const destinations = (...steps: readonly Uint8Array[]): Uint8Array =>
  extension('restrict-destination-v00@openssh.com', str(...steps));
const associated = (only: number, ...blobs: readonly Uint8Array[]): Uint8Array =>
  extension('associated-certs-v00@openssh.com', only, str(...blobs));
const provider = (path: Part): Uint8Array => extension('sk-provider@openssh.com', str(path));

const here = hop('', '');
const far = hop('root', 'far', key('K'));

describe('each constraint', () => {
  const cases: [string, Uint8Array, Constraints][] = [
    ['none', raw(), {}],
    ['a lifetime', raw(1, u32(90)), { lifetime: 90 }],
    ['a lifetime of 0', raw(1, u32(0)), { lifetime: 0 }],
    ['the longest lifetime', raw(1, u32(0xffffffff)), { lifetime: 0xffffffff }],
    ['confirmation', raw(2), { confirm: true }],
    ['a provider', provider('/usr/lib/sk.so'), { skProvider: '/usr/lib/sk.so' }],
    [
      'a destination from here',
      destinations(step(here, far)),
      {
        destinations: [
          {
            from: { user: '', hostname: '', keys: [] },
            to: { user: 'root', hostname: 'far', keys: [{ blob: raw('K'), isAuthority: false }] },
          },
        ],
      },
    ],
    [
      'a step between hosts',
      destinations(step(hop('', 'near', key('N'), key('A', 1)), far)),
      {
        destinations: [
          {
            from: {
              user: '',
              hostname: 'near',
              keys: [
                { blob: raw('N'), isAuthority: false },
                { blob: raw('A'), isAuthority: true },
              ],
            },
            to: { user: 'root', hostname: 'far', keys: [{ blob: raw('K'), isAuthority: false }] },
          },
        ],
      },
    ],
    [
      'all that a key can have',
      raw(1, u32(5), 2, provider('internal'), destinations(step(here, hop('', 'h', key('K', 1))))),
      {
        lifetime: 5,
        confirm: true,
        skProvider: 'internal',
        destinations: [
          {
            from: { user: '', hostname: '', keys: [] },
            to: { user: '', hostname: 'h', keys: [{ blob: raw('K'), isAuthority: true }] },
          },
        ],
      },
    ],
  ];

  it.each(cases)('reads and writes %s', (_, bytes, value) => {
    expect(decode(bytes)).toEqual(value);
    expect(encode(value)).toEqual(bytes);
  });

  it.each(cases)('is refused or another one where it is cut: %s', (_, bytes, value) => {
    for (let length = 0; length < bytes.length; length++) {
      let cut: Constraints | undefined;
      try {
        cut = decode(bytes.subarray(0, length));
      } catch (error) {
        expect((error as Error).name).toBe('WireError');
      }
      if (cut !== undefined) expect(Object.keys(cut).length).toBeLessThan(Object.keys(value).length);
    }
  });

  it('reads them in any order', () => {
    expect(decode(raw(2, provider('p'), 1, u32(7)))).toEqual({ lifetime: 7, confirm: true, skProvider: 'p' });
  });

  it('reads associated certificates for a token alone', () => {
    const value = { associatedCertificates: { certificatesOnly: true, blobs: [raw('one'), raw('two')] } };
    const bytes = associated(1, str('one'), str('two'));
    expect(decode(bytes, true)).toEqual(value);
    expect(encode(value)).toEqual(bytes);
    expect(decode(associated(0), true)).toEqual({ associatedCertificates: { certificatesOnly: false, blobs: [] } });
    expectWireError(() => decode(bytes), 'unknown-constraint');
  });

  it('keeps copies: the frame may be wiped', () => {
    const bytes = raw(destinations(step(here, far)), associated(0, str('one')));
    const read = decode(bytes, true);
    bytes.fill(0);
    expect(read.destinations?.[0]?.to.keys[0]?.blob).toEqual(raw('K'));
    expect(read.associatedCertificates?.blobs[0]).toEqual(raw('one'));
  });
});

describe('what is refused', () => {
  it.each([0, 3, 4, 100, 254])('the constraint %d, which we could not enforce', (type) => {
    expectWireError(() => decode(raw(type, u32(1))), 'unknown-constraint');
    expectWireError(() => decode(raw(2, type)), 'unknown-constraint');
  });

  it.each(['', 'unknown@example.org', 'SK-PROVIDER@openssh.com', 'restrict-destination-v01@openssh.com', '\ufffd'])(
    'the extension %j',
    (name) => {
      expectWireError(() => decode(extension(name, str(''))), 'unknown-constraint');
    },
  );

  it.each([
    ['lifetime', raw(1, u32(1))],
    ['lifetime of 0', raw(1, u32(0))],
    ['confirm', raw(2)],
    ['provider', provider('p')],
    ['an empty provider', provider('')],
    ['destinations', destinations(step(here, far))],
    ['associated certificates', associated(0)],
  ])('%s said twice', (_, one) => {
    expectWireError(() => decode(raw(one, one), true), 'repeated-constraint');
    expectWireError(() => decode(raw(one, 2, one), true), 'repeated-constraint');
  });

  it.each([
    ['an empty list of destinations', destinations(), 'bad-value'],
    ['a user at the near end', destinations(step(hop('me', 'near', key('N')), far)), 'bad-value'],
    ['a near host without keys', destinations(step(hop('', 'near'), far)), 'bad-value'],
    ['near keys without a host', destinations(step(hop('', '', key('N')), far)), 'bad-value'],
    ['a far end without keys', destinations(step(here, hop('', 'far'))), 'bad-value'],
    ['a far end without a host', destinations(step(here, hop('', '', key('K')))), 'bad-value'],
    ['something in a hop where nothing is defined', destinations(step(raw(str(), str(), str('x')), far)), 'bad-value'],
    ['something in a step where nothing is defined', destinations(str(str(here), str(far), str('x'))), 'bad-value'],
    ['bytes after a step', destinations(step(here, far, 0)), 'trailing'],
    ['a step without its last field', destinations(str(str(here), str(far))), 'short'],
    ['a key without its flag', destinations(step(here, raw(hop('', 'far'), str('K')))), 'short'],
    ['a NUL in a user', destinations(step(here, hop(raw('a', 0, 'b'), 'far', key('K')))), 'bad-text'],
    ['a NUL in a host', destinations(step(here, hop('', raw('a', 0, 'b'), key('K')))), 'bad-text'],
    ['a NUL in a provider', provider(raw('/usr', 0, '/lib')), 'bad-text'],
  ] as const)('%s', (_, bytes, code) => {
    expectWireError(() => decode(bytes), code);
  });

  it.each([raw('b', 0xff), raw(0xc0, 0x80), raw(0xed, 0xa0, 0x80)])(
    'names that are not UTF-8, which could be taken for one another',
    (name) => {
      expectWireError(() => decode(destinations(step(here, hop(name, 'far', key('K'))))), 'bad-text', 'to.user');
      expectWireError(() => decode(destinations(step(here, hop('', name, key('K'))))), 'bad-text', 'to.hostname');
      expectWireError(() => decode(provider(name)), 'bad-text');
    },
  );

  it('writing an empty list of destinations, which OpenSSH takes for no constraint', () => {
    expectWireError(() => encode({ destinations: [] }), 'bad-value');
  });

  it('writing a lifetime that is no u32', () => {
    for (const lifetime of [-1, 2 ** 32, 0.5]) expectWireError(() => encode({ lifetime }), 'bad-value');
  });
});

describe('bounds', () => {
  const user = (value: Part) => destinations(step(here, hop(value, 'far', key('K'))));
  const host = (value: Part) => destinations(step(here, hop('', value, key('K'))));
  const times = (count: number, one: Uint8Array) => Array.from({ length: count }, () => one);
  const keys = (count: number) => destinations(step(here, hop('', 'far', ...times(count, key('K')))));
  const steps = (count: number) => destinations(...times(count, step(here, far)));
  const certificates = (count: number) => associated(0, ...times(count, str('C')));

  it('has the numbers of OpenSSH', () => {
    expect([MAX_DESTINATIONS, MAX_ASSOCIATED_CERTIFICATES, MAX_USER_PATTERN_BYTES, MAX_HOSTNAME_BYTES]).toEqual([
      1024, 1024, 256, 1025,
    ]);
  });

  it.each([
    ['MAX_USER_PATTERN_BYTES', user(letters(MAX_USER_PATTERN_BYTES)), user(letters(MAX_USER_PATTERN_BYTES + 1))],
    ['MAX_USER_PATTERN_BYTES in UTF-8', user('é'.repeat(128)), user(`${'é'.repeat(128)}a`)],
    ['MAX_HOSTNAME_BYTES', host(letters(MAX_HOSTNAME_BYTES)), host(letters(MAX_HOSTNAME_BYTES + 1))],
    ['MAX_HOP_KEYS', keys(MAX_HOP_KEYS), keys(MAX_HOP_KEYS + 1)],
    ['MAX_DESTINATIONS', steps(MAX_DESTINATIONS), steps(MAX_DESTINATIONS + 1)],
    ['MAX_PROVIDER_BYTES', provider(letters(MAX_PROVIDER_BYTES)), provider(letters(MAX_PROVIDER_BYTES + 1))],
    [
      'MAX_ASSOCIATED_CERTIFICATES',
      certificates(MAX_ASSOCIATED_CERTIFICATES),
      certificates(MAX_ASSOCIATED_CERTIFICATES + 1),
    ],
  ])('keeps %s', (_, at, above) => {
    const value = decode(at, true);
    expect(Object.keys(value)).toHaveLength(1);
    expect(Buffer.compare(encode(value), at)).toBe(0);
    expectWireError(() => decode(above, true), 'too-long');
  });

  it('never waits for what a length claims', () => {
    expectWireError(() => decode(raw(255, u32(0xffffffff))), 'short');
    expectWireError(() => decode(extension('restrict-destination-v00@openssh.com', u32(0xffffffff), 'abc')), 'short');
    expectWireError(() => decode(raw(255, str(fill(9)), u32(0xffffffff))), 'unknown-constraint');
  });
});

describe('round trip', () => {
  it.each([true, false])('gives back what went in (for a token: %s)', (forToken) => {
    fc.assert(
      fc.property(constraints(forToken), (value) => {
        expect(decode(encode(value), forToken)).toEqual(value);
      }),
    );
  });

  it('knows whether anything is constrained', () => {
    expect(isConstrained(noConstraints)).toBe(false);
    expect(isConstrained({ lifetime: 0 })).toBe(true);
    expect(isConstrained({ skProvider: '' })).toBe(true);
    expect(isConstrained({ confirm: true })).toBe(true);
    fc.assert(
      fc.property(constraints(true), (value) => {
        expect(isConstrained(value)).toBe(encode(value).length > 0);
      }),
    );
  });
});
