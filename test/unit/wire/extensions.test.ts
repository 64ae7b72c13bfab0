import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeQueryNames,
  decodeSessionBind,
  encodeQueryNames,
  encodeSessionBind,
  MAX_EXTENSION_NAME_BYTES,
  MAX_QUERY_NAMES,
  MAX_SESSION_ID_BYTES,
  QUERY,
  SESSION_BIND,
} from '../../../src/wire/extensions.ts';
import { sessionBind, text } from './arbitraries.ts';
import { fill, letters, raw, str } from './build.ts';
import { expectWireError } from './thrown.ts';

describe('session-bind', () => {
  const body = raw(str('host key'), str('session'), str('signature'), 1);
  const value = {
    hostKey: raw('host key'),
    sessionId: raw('session'),
    signature: raw('signature'),
    isForwarding: true,
  };

  it('has its name', () => {
    expect([QUERY, SESSION_BIND]).toEqual(['query', 'session-bind@openssh.com']);
  });

  it('reads and writes every field', () => {
    expect(decodeSessionBind(body)).toEqual(value);
    expect(encodeSessionBind(value)).toEqual(body);
  });

  it('is short at every cut and refuses one byte more', () => {
    for (let length = 0; length < body.length; length++)
      expectWireError(() => decodeSessionBind(body.subarray(0, length)), 'short');
    expectWireError(() => decodeSessionBind(raw(body, 0)), 'trailing');
  });

  it('keeps MAX_SESSION_ID_BYTES', () => {
    const of = (length: number) => raw(str('k'), str(fill(length)), str('s'), 0);
    expect(MAX_SESSION_ID_BYTES).toBe(128);
    expect(decodeSessionBind(of(MAX_SESSION_ID_BYTES)).sessionId.length).toBe(128);
    expectWireError(() => decodeSessionBind(of(MAX_SESSION_ID_BYTES + 1)), 'too-long', 'session identifier');
  });

  it('takes any byte but 0 for forwarding: a doubt makes a connection remote and not local', () => {
    expect(decodeSessionBind(raw(str(), str(), str(), 2)).isForwarding).toBe(true);
    expect(decodeSessionBind(raw(str(), str(), str(), 0)).isForwarding).toBe(false);
  });

  it('gives back what went in', () => {
    fc.assert(
      fc.property(sessionBind, (bind) => {
        expect(decodeSessionBind(encodeSessionBind(bind))).toEqual(bind);
      }),
    );
  });
});

describe('query', () => {
  it('reads and writes names to the end', () => {
    const body = raw(str('session-bind@openssh.com'), str('x@example.org'));
    expect(decodeQueryNames(body)).toEqual(['session-bind@openssh.com', 'x@example.org']);
    expect(encodeQueryNames(['session-bind@openssh.com', 'x@example.org'])).toEqual(body);
    expect(decodeQueryNames(raw())).toEqual([]);
    expect(encodeQueryNames([])).toEqual(raw());
  });

  it('is short where a name is cut', () => {
    expectWireError(() => decodeQueryNames(str('abc').subarray(0, 6)), 'short');
    expectWireError(() => decodeQueryNames(raw(str('abc'), 0)), 'short');
  });

  it('keeps MAX_QUERY_NAMES and MAX_EXTENSION_NAME_BYTES', () => {
    const of = (count: number) => raw(...Array.from({ length: count }, () => str('n')));
    expect(decodeQueryNames(of(MAX_QUERY_NAMES))).toHaveLength(1024);
    expectWireError(() => decodeQueryNames(of(MAX_QUERY_NAMES + 1)), 'too-long');
    expect(decodeQueryNames(str(letters(MAX_EXTENSION_NAME_BYTES)))).toHaveLength(1);
    expectWireError(() => decodeQueryNames(str(letters(MAX_EXTENSION_NAME_BYTES + 1))), 'too-long');
  });

  it('gives back what went in', () => {
    fc.assert(
      fc.property(fc.array(text()), (names) => {
        expect(decodeQueryNames(encodeQueryNames(names))).toEqual(names);
      }),
    );
  });
});
