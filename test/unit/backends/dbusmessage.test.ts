import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeMessage, encodeCall, MAX_MESSAGE_BYTES, messageLength } from '../../../src/backends/dbusmessage.ts';

const hex = (text: string): Uint8Array => Buffer.from(text.replace(/\s+/g, ''), 'hex');

// Made by GLib's Gio.DBusMessage.

/** ActionInvoked(7, "once") from :1.5, little-endian. */
const signal = hex(`
  6c0401010d000000020000007e00000007017300040000003a312e350000000001016f001e0000002f6f72672f667265656465736b746f702f4e6f
  74696669636174696f6e730000020173001d0000006f72672e667265656465736b746f702e4e6f74696669636174696f6e73000000080167000275
  7300030173000d000000416374696f6e496e766f6b656400000007000000040000006f6e636500`);

/** A reply to call 9 with 258, ["actions", "body"] and a variant of (-2, true), big-endian. */
const reply = hex(`
  42020101000000340000000300000018080167000475617376000000000000000501750000000009000001020000001500000007616374696f6e73
  0000000004626f6479000428786229000000000000fffffffffffffffe00000001`);

/** A signal with forty variants in each other. */
const nested = hex(
  `6c04010179000000010000003200000001016f00020000002f610000000000000201730003000000622e6300000000000801
   67000176000003017300010000004400000000000000 ${'017600'.repeat(39)} 01790001`,
);

describe('a message of D-Bus', () => {
  it('is read, little-endian', () => {
    expect(messageLength(signal)).toBe(signal.length);
    expect(decodeMessage(signal)).toEqual({
      kind: 'signal',
      serial: 2,
      replySerial: undefined,
      path: '/org/freedesktop/Notifications',
      interface: 'org.freedesktop.Notifications',
      member: 'ActionInvoked',
      errorName: undefined,
      sender: ':1.5',
      body: [7, 'once'],
    });
  });

  it('is read, big-endian', () => {
    expect(decodeMessage(reply)).toMatchObject({
      kind: 'return',
      serial: 3,
      replySerial: 9,
      body: [258, ['actions', 'body'], { signature: '(xb)', value: [-2n, true] }],
    });
  });

  it('of an unknown kind is passed over', () => {
    const unknown = Uint8Array.from(reply);
    unknown[1] = 200;
    expect(decodeMessage(unknown)).toBeUndefined();
  });

  it.each([
    ['a byte order that is none', 0, 0x6d],
    ['kind 0', 1, 0],
    ['version 2', 3, 2],
    ['a body that is longer than the message', 7, 5],
    ['a type that is none', 21, 0x7a],
    ['a text without its end', 25, 1],
  ])('with %s is refused', (_, at, value) => {
    const wrong = Uint8Array.from(reply);
    wrong[at] = value;
    expect(() => decodeMessage(wrong)).toThrow();
  });

  it('of more than 64 KiB is refused before it is read', () => {
    const long = Uint8Array.from(reply.subarray(0, 16));
    new DataView(long.buffer).setUint32(4, MAX_MESSAGE_BYTES);
    expect(() => messageLength(long)).toThrow('too long');
  });

  it('nested without end is refused', () => {
    expect(() => decodeMessage(nested)).toThrow('nested');
  });

  it('is cut anywhere, and refused', () => {
    for (let end = 16; end < signal.length; end++) expect(() => decodeMessage(signal.subarray(0, end))).toThrow();
  });

  it('made of any bytes is read, or refused with an error of its own', () => {
    const bytes = fc.oneof(
      fc.uint8Array({ minLength: 16, maxLength: 200 }),
      fc.array(fc.tuple(fc.nat(signal.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }).map((changes) => {
        const changed = Uint8Array.from(signal);
        for (const [at, value] of changes) changed[at] = value;
        return changed;
      }),
    );
    fc.assert(
      fc.property(bytes, (given) => {
        try {
          decodeMessage(given);
        } catch (error) {
          expect((error as Error).constructor.name).toBe('DbusError');
        }
      }),
      { numRuns: 3000 },
    );
  });
});

describe('a call of D-Bus', () => {
  it('is written as the specification has it', () => {
    const call = {
      destination: ':1.2',
      path: '/a',
      interface: 'b.c',
      member: 'D',
      signature: 'sa{sv}i',
      body: ['é', [['urgency', { signature: 'y', value: 2 }]], -1],
    };
    const head = `
      6c 01 00 01  24000000  05000000  4d000000
      01 01 6f 00  02000000  2f61 00 0000000000
      02 01 73 00  03000000  622e63 00 00000000
      03 01 73 00  01000000  44 00 000000000000
      06 01 73 00  04000000  3a312e32 00 000000
      08 01 67 00  07 73617b73767d69 00  000000`;
    // The body as GLib writes it.
    const body = '02000000c3a90000100000000000000007000000757267656e63790001790002ffffffff';
    expect(Buffer.from(encodeCall(call, 5, true))).toEqual(hex(head + body));
  });

  it('that is too long is not written', () => {
    const call = {
      destination: 'a.b',
      path: '/',
      interface: 'a.b',
      member: 'C',
      signature: 's',
      body: ['x'.repeat(70_000)],
    };
    expect(() => encodeCall(call, 1, true)).toThrow('too long');
  });
});
