import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Bindings,
  bind,
  bindRequest,
  isForwarded,
  isRemote,
  MAX_BINDINGS,
  noBindings,
} from '../../../src/policy/bindings.ts';
import { raw, str } from '../wire/build.ts';
import { bindTo, bound, certify, makeHost, newSession, signWith } from './hosts.ts';
import { fromBase64Text, LOGINS, recorded } from './sessions.ts';

const a = makeHost('host_a');
const b = makeHost('host_b');
const c = makeHost('host_c');

function bindsIn(name: string): Uint8Array[][] {
  return recorded(name).connections.map((requests) =>
    requests.flatMap((request) => (request.kind === 'extension' ? [request.body] : [])),
  );
}

describe('bindings that ssh made', () => {
  it.each(LOGINS)('are accepted in %s, as OpenSSH did, and keep host keys and forwarding', (name) => {
    const { facts } = recorded(name);
    for (const [i, bodies] of bindsIn(name).entries()) {
      let bindings = noBindings;
      for (const body of bodies) {
        const result = bindRequest(bindings, body);
        expect(result).toMatchObject({ accepted: true });
        bindings = result.bindings;
      }
      const known = facts.binds?.[i];
      if (known === null || known === undefined) continue;
      expect(bindings.list.map(({ hostKeyBlob, forwarded }) => ({ hostKeyBlob, forwarded }))).toEqual(
        known.map(({ hostKey, forwarding }) => ({ hostKeyBlob: fromBase64Text(hostKey), forwarded: forwarding })),
      );
      expect(isForwarded(bindings)).toBe(known.some(({ forwarding }) => forwarding));
    }
  });

  it.each(LOGINS)('are refused in %s when any byte but the last is changed', (name) => {
    const body = bindsIn(name)[0]?.[0] ?? raw();
    fc.assert(
      fc.property(fc.nat(body.length - 2), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const changed = raw(body);
        changed[at] = (changed[at] ?? 0) ^ change;
        const { accepted, bindings, reason } = bindRequest(noBindings, changed);
        expect({ accepted, bindings }).toEqual({
          accepted: false,
          bindings: { attempted: true, failed: true, list: [] },
        });
        expect(reason).toMatch(/\w/);
      }),
    );
  });

  it('are refused when cut short or followed by more', () => {
    const body = bindsIn('login-ed25519')[0]?.[0] ?? raw();
    expect(bindRequest(noBindings, body.subarray(0, -1)).accepted).toBe(false);
    expect(bindRequest(noBindings, raw(body, 0)).accepted).toBe(false);
    expect(bindRequest(noBindings, body).accepted).toBe(true);
  });
});

describe('binding', () => {
  it('keeps copies, since the frame is wiped', () => {
    const request = bindTo(a, true);
    const { bindings } = bind(noBindings, request);
    const before = [...(bindings.list[0]?.sessionId ?? [])];
    request.sessionId.fill(0);
    request.hostKey.slice().fill(0);
    expect([...(bindings.list[0]?.sessionId ?? [])]).toEqual(before);
    expect(bindings.list[0]?.hostKeyBlob.buffer).not.toBe(request.hostKey.buffer);
  });

  it('leaves the bindings that it was given as they were', () => {
    const first = bound(bindTo(a, true));
    const { bindings } = bind(first, bindTo(b, true));
    expect([noBindings.list.length, first.list.length, bindings.list.length]).toEqual([0, 1, 2]);
  });

  it('refuses a signature by another host', () => {
    const sessionId = newSession();
    const forged = { ...bindTo(a, false, sessionId), signature: signWith(b, sessionId) };
    expect(bind(noBindings, forged)).toMatchObject({ accepted: false, bindings: { attempted: true, list: [] } });
  });

  it('refuses a signature replayed for another session', () => {
    const replayed = { ...bindTo(a, false), sessionId: newSession() };
    expect(bind(noBindings, replayed).accepted).toBe(false);
  });

  it('takes a host certificate by what it certifies, and refuses one that its authority did not sign', () => {
    const shown = certify(a, c);
    expect(bind(noBindings, bindTo(shown, false)).accepted).toBe(true);
    const broken = raw(shown.blob);
    broken[broken.length - 1] = (broken.at(-1) ?? 0) ^ 1;
    expect(bind(noBindings, { ...bindTo(shown, false), hostKey: broken }).accepted).toBe(false);
  });

  it('refuses anything once the connection is used for a login', () => {
    const login = bindTo(b, false);
    const bindings = bound(bindTo(a, true), login);
    for (const next of [bindTo(c, false), bindTo(c, true), login]) {
      const result = bind(bindings, next);
      expect(result.accepted).toBe(false);
      expect(result.bindings.list).toEqual(bindings.list);
      expect(result.bindings.failed).toBe(true);
    }
  });

  it('takes the same session of the same host again, and adds nothing', () => {
    const request = bindTo(a, true);
    const bindings = bound(request, bindTo(b, true));
    const again = bind(bindings, { ...request, isForwarding: false });
    expect(again.accepted).toBe(true);
    expect(again.bindings).toEqual(bindings);
  });

  it('refuses the same session with another host key, its certificate included', () => {
    const sessionId = newSession();
    const bindings = bound(bindTo(a, true, sessionId));
    expect(bind(bindings, bindTo(b, true, sessionId)).accepted).toBe(false);
    expect(bind(bindings, bindTo(certify(a, c), true, sessionId)).accepted).toBe(false);
  });

  it('takes another session of the same host', () => {
    expect(bound(bindTo(a, true), bindTo(a, true), bindTo(a, false)).list).toHaveLength(3);
  });

  it(`takes ${MAX_BINDINGS} sessions and refuses one more, but still the same again`, () => {
    const requests = Array.from({ length: MAX_BINDINGS }, () => bindTo(a, true));
    const bindings = bound(...requests);
    expect(bind(bindings, bindTo(a, true)).accepted).toBe(false);
    expect(bind(bindings, requests[3] ?? bindTo(a, true)).accepted).toBe(true);
  });

  it('takes session identifiers of 1 to 128 bytes', () => {
    const accepted = (length: number): boolean =>
      bind(noBindings, bindTo(a, false, new Uint8Array(length).fill(1))).accepted;
    expect([0, 1, 128, 129].map(accepted)).toEqual([false, true, true, false]);
  });

  it('refuses host keys that it cannot read', () => {
    const request = bindTo(a, false);
    for (const hostKey of [raw(), raw(str('ssh-ed25519')), raw(str('ssh-dss'), str('x')), raw(a.blob, 0)])
      expect(bind(noBindings, { ...request, hostKey }).accepted).toBe(false);
  });
});

describe('what a connection is taken for', () => {
  const cases: [string, Bindings, boolean, boolean][] = [
    ['nothing bound', noBindings, false, false],
    ['a login of ours', bound(bindTo(a, false)), true, false],
    ['a forwarded connection', bound(bindTo(a, true)), true, true],
    ['a login from afar', bound(bindTo(a, true), bindTo(b, false)), true, true],
    ['a binding that failed', bind(noBindings, { ...bindTo(a, false), signature: raw() }).bindings, true, true],
    [
      'a login of ours, then a binding that failed',
      bind(bound(bindTo(a, false)), bindTo(b, false)).bindings,
      true,
      true,
    ],
    ['a malformed request', bindRequest(noBindings, raw()).bindings, true, true],
  ];
  it.each(cases)('%s', (_, bindings, remote, forwarded) => {
    expect({ remote: isRemote(bindings), forwarded: isForwarded(bindings) }).toEqual({ remote, forwarded });
  });

  it('never forgets a failure, nor that it forwards', () => {
    const failed = bindRequest(noBindings, raw()).bindings;
    const later = bind(failed, bindTo(a, false)).bindings;
    expect(later.list).toHaveLength(1);
    expect(isForwarded(later)).toBe(true);
  });
});
