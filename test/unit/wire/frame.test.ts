import { describe, expect, it } from 'vitest';
import { encodeFrame, frameLength, LENGTH_BYTES, MAX_FRAME_BYTES } from '../../../src/wire/frame.ts';
import { fill, raw, u32 } from './build.ts';

describe('frames', () => {
  it('has the bounds of OpenSSH', () => {
    expect([LENGTH_BYTES, MAX_FRAME_BYTES]).toEqual([4, 262144]);
  });

  it.each([0, 1, 0xff, 0x100, MAX_FRAME_BYTES, MAX_FRAME_BYTES + 1, 0x7fffffff, 0x80000000, 0xffffffff])(
    'reads a length of %d as a number that is not negative',
    (length) => {
      expect(frameLength(u32(length))).toBe(length);
      expect(frameLength(raw(1, 2, u32(length), 3), 2)).toBe(length);
    },
  );

  it('knows no length where fewer than four bytes are there', () => {
    for (let length = 0; length < 4; length++) expect(frameLength(fill(length))).toBeUndefined();
    expect(frameLength(fill(8), 5)).toBeUndefined();
    expect(frameLength(fill(8), 8)).toBeUndefined();
    expect(frameLength(fill(8), 9)).toBeUndefined();
    expect(frameLength(fill(8), 4)).toBe(0x61616161);
  });

  it.each([0, 1, 5, 256, 65536, MAX_FRAME_BYTES])('puts the length before a message of %d bytes', (length) => {
    const message = fill(length, 0xab);
    const frame = encodeFrame(message);
    expect(Buffer.compare(frame, raw(u32(length), message))).toBe(0);
  });

  it('copies the message', () => {
    const message = raw(11);
    const frame = encodeFrame(message);
    message.fill(0);
    expect(frame).toEqual(raw(0, 0, 0, 1, 11));
  });
});
