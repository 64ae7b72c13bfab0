import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Bindings, bind, bindRequest, noBindings } from '../../../src/policy/bindings.ts';
import { loginFitsBindings, maySign, permitted } from '../../../src/policy/destination.ts';
import type { DestinationConstraint } from '../../../src/wire/constraints.ts';
import { classify } from '../../../src/wire/signeddata.ts';
import { fill, raw, str } from '../wire/build.ts';
import { bindTo, bound, certify, constraint, type Host, hop, loginData, makeHost, NOW, newSession } from './hosts.ts';
import { fromBase64Text, recorded, signedIn } from './sessions.ts';

const key = raw(str('ssh-ed25519'), str(fill(32, 9)));
const authority = makeHost('ca');
const plain = (name: string): Host => makeHost(`host_${name}`);
const hosts: Readonly<Record<string, Host>> = {
  a: plain('a'),
  b: plain('b'),
  c: plain('c'),
  d: certify(plain('d'), authority),
  e: certify(plain('e'), authority),
  x: plain('x'),
};

function host(name: string): Host {
  const found = hosts[name];
  if (found === undefined) throw new Error(name);
  return found;
}

/** As `ssh-add -h`: 'a', 'a>b', 'a>user@b'; d and e are known by their authority. */
function parse(text: string): DestinationConstraint {
  const [left, right] = text.includes('>') ? text.split('>') : [undefined, text];
  const words = (right ?? '').split('@');
  const to = words.at(-1) ?? '';
  const known = (name: string, user = ''): ReturnType<typeof hop> =>
    hop(host(name), user, 'de'.includes(name) ? authority : undefined);
  return constraint(left === undefined ? undefined : known(left), known(to, words.length > 1 ? words[0] : ''));
}

const constraints = (...texts: readonly string[]): DestinationConstraint[] => texts.map(parse);
const forwardedAt = (path: string): Bindings => bound(...[...path].map((name) => bindTo(host(name), true)));
const isListed = (destinations: readonly DestinationConstraint[] | undefined, path: string): boolean =>
  permitted(destinations, forwardedAt(path), undefined, NOW).ok;

/** Whether ssh, running at the end of `path`, may log in to `to` as `user`. */
function logsIn(destinations: readonly DestinationConstraint[] | undefined, path: string, to: string, user = 'alice') {
  const last = bindTo(host(to), false);
  const bindings = bound(...[...path].map((name) => bindTo(host(name), true)), last);
  const entry = destinations === undefined ? { blob: key } : { blob: key, destinations };
  return maySign(entry, bindings, classify(loginData(key, last, { user })), NOW).ok;
}

/** Where along 'a b a c' the key is listed ('+' or '-' at the start and at each host) and logs in to the next. */
function walk(destinations: readonly DestinationConstraint[] | undefined, path: string, user = 'alice') {
  let listed = isListed(destinations, '') ? '+' : '-';
  let login = '';
  for (let i = 0; i < path.length; i++) {
    login += logsIn(destinations, path.slice(0, i), path.charAt(i), user) ? '+' : '-';
    listed += isListed(destinations, path.slice(0, i + 1)) ? '+' : '-';
  }
  return { listed, login };
}

describe('the paths of OpenSSH’s agent-restrict test', () => {
  it('lets an unconstrained key go anywhere', () => {
    expect(walk(undefined, 'abcde')).toEqual({ listed: '++++++', login: '+++++' });
  });

  it.each([...'abcde'])('lets a key for host_%s log in there and nowhere else, and shows it nowhere', (name) => {
    const destinations = constraints(name);
    for (const other of 'abcdex') {
      expect(logsIn(destinations, '', other)).toBe(other === name);
      expect(isListed(destinations, other)).toBe(false);
      expect(logsIn(destinations, name, other)).toBe(false);
    }
    expect(isListed(destinations, '')).toBe(true);
  });

  it.each([...'abcde'])('heeds the user name for host_%s', (name) => {
    expect(logsIn(constraints(`alice@${name}`), '', name)).toBe(true);
    expect(logsIn(constraints(`*@${name}`), '', name)).toBe(true);
    expect(logsIn(constraints(`al?ce@${name}`), '', name)).toBe(true);
    expect(logsIn(constraints(`--BADUSER@${name}`), '', name)).toBe(false);
    expect(logsIn(constraints(`Alice@${name}`), '', name)).toBe(false);
    expect(logsIn(constraints(`alice,bob@${name}`), '', name)).toBe(false);
    expect(logsIn(constraints(`!bob@${name}`), '', name)).toBe(false);
  });

  it('heeds the principals of a host certificate', () => {
    expect(logsIn(constraints('e'), '', 'd')).toBe(false);
    expect(logsIn(constraints('e'), '', 'e')).toBe(true);
  });

  const chain = ['a', 'a>b', 'b>c', 'c>d', 'd>e'];
  it('lets a key go through a chain of hosts, and hides it at the last', () => {
    expect(walk(constraints(...chain), 'abcde')).toEqual({ listed: '+++++-', login: '+++++' });
    expect(walk(constraints('x'), 'abcde')).toEqual({ listed: '+-----', login: '-----' });
  });

  it.each(['alice', '*'])('lets it go on through the chain as user %s', (user) => {
    const destinations = constraints('a', `a>${user}@b`, `b>${user}@c`, `c>${user}@d`, `d>${user}@e`);
    expect(walk(destinations, 'abcde')).toEqual({ listed: '+++++-', login: '+++++' });
  });

  it('stops it where the chain names another user', () => {
    const destinations = constraints('a', 'a>*@b', 'b>*@c', 'c>--BADUSER@d', 'd>*@e');
    expect(walk(destinations, 'abc').login).toBe('+++');
    expect(logsIn(destinations, 'abc', 'd')).toBe(false);
  });

  it('does not let it go in circles unless each step is permitted', () => {
    expect(walk(constraints(...chain), 'abaacde')).toEqual({ listed: '+++-----', login: '++-----' });
    const circles = constraints(...chain, 'b>a', 'a>a', 'a>c');
    expect(walk(circles, 'abaacde')).toEqual({ listed: '+++++++-', login: '+++++++' });
  });

  it('does not let it start in the middle', () => {
    expect(walk(constraints(...chain), 'bcde')).toEqual({ listed: '+----', login: '----' });
  });
});

describe('a host certificate', () => {
  const shown = plain('d');
  const toD = [constraint(undefined, hop(shown, '', authority))];
  const fits = (other: Host, destinations = toD, now = NOW): boolean =>
    permitted(destinations, bound(bindTo(other, false)), 'alice', now).ok;

  it('fits its authority while it is valid', () => {
    const certified = certify(shown, authority);
    expect([NOW - 61, NOW - 60, NOW + 59, NOW + 60].map((now) => fits(certified, toD, now))).toEqual([
      ...[false, true, true, false],
    ]);
  });

  it('may have a pattern as principal', () => {
    expect(fits(certify(shown, authority, { principals: ['other', 'host_?'] }))).toBe(true);
  });

  it.each([
    ['for users', { kind: 1 }],
    ['without principals', { principals: [] }],
    ['for another host', { principals: ['host_e'] }],
    ['with a critical option', { criticalOption: 'force-command' }],
  ] as const)('does not fit %s', (_, change) => {
    expect(fits(certify(shown, authority, change))).toBe(false);
  });

  it('does not fit another authority, nor its own plain key listed as host', () => {
    expect(fits(certify(shown, makeHost('other')))).toBe(false);
    expect(fits(certify(shown, authority), [constraint(undefined, hop(shown))])).toBe(false);
    const authorityAsHost = { ...hop(shown), keys: [{ blob: authority.blob, isAuthority: false }] };
    expect(fits(certify(shown, authority), [constraint(undefined, authorityAsHost)])).toBe(false);
  });

  it('is not replaced by the plain key of the authority or the host', () => {
    expect(fits(shown)).toBe(false);
    expect(fits({ ...authority, name: shown.name })).toBe(false);
  });
});

describe('signing with a key that has destinations', () => {
  const destinations = constraints('a', 'a>b');
  const entry = { blob: key, destinations };
  const toA = bindTo(host('a'), false);
  const atA = bindTo(host('a'), true);
  const toB = bindTo(host('b'), false);
  const reason = (bindings: Bindings, data: Uint8Array): string => {
    const permission = maySign(entry, bindings, classify(data), NOW);
    return permission.ok ? 'ok' : permission.reason;
  };

  it('works for the login that the connection is bound to', () => {
    expect(reason(bound(toA), loginData(key, toA))).toBe('ok');
    expect(reason(bound(atA, toB), loginData(key, toB))).toBe('ok');
  });

  it('is refused on a connection with no binding, or with one that failed', () => {
    expect(reason(noBindings, loginData(key, toA))).toMatch(/only over a connection that is bound/);
    expect(reason(bindRequest(noBindings, raw()).bindings, loginData(key, toA))).toMatch(/bound/);
  });

  it('is refused for anything but a login', () => {
    expect(reason(bound(toA), raw('SSHSIG', str('git'), str(''), str('sha256'), str(fill(32))))).toMatch(/only logins/);
    expect(reason(bound(toA), raw('anything'))).toMatch(/only logins/);
  });

  it('is refused for a login that names another key', () => {
    expect(reason(bound(toA), loginData(raw(str('ssh-ed25519'), str(fill(32))), toA))).toMatch(/another key/);
  });

  it('is refused for another session, also one bound earlier', () => {
    expect(reason(bound(toA), loginData(key, toA, { sessionId: newSession() }))).toMatch(/another session/);
    expect(reason(bound(atA, toB), loginData(key, toB, { sessionId: atA.sessionId }))).toMatch(/another session/);
  });

  it('needs the host key in the login beyond the first host alone', () => {
    expect(reason(bound(toA), loginData(key, toA, { hostKey: null }))).toBe('ok');
    expect(reason(bound(atA, toB), loginData(key, toB, { hostKey: null }))).toMatch(/does not name its host key/);
  });

  it('is refused when the login names another host key', () => {
    expect(reason(bound(toA), loginData(key, toA, { hostKey: host('b').blob }))).toMatch(/another host key/);
    expect(reason(bound(atA, toB), loginData(key, toB, { hostKey: host('a').blob }))).toMatch(/another host key/);
  });

  it('is refused on a session that only forwards', () => {
    expect(reason(bound(atA), loginData(key, atA))).toMatch(/only forwards/);
  });

  it('is not for a host that cannot prove its key: forged and replayed bindings leave the connection unbound', () => {
    for (const forged of [
      { ...toA, hostKey: host('x').blob },
      { ...toA, sessionId: newSession() },
    ]) {
      const { bindings } = bind(noBindings, forged);
      expect(reason(bindings, loginData(key, toA))).toMatch(/bound/);
      expect(permitted(destinations, bindings, undefined, NOW)).toMatchObject({ ok: false });
    }
  });

  it('says in words which step is not permitted', () => {
    const toX = bindTo(host('x'), false);
    expect(reason(bound(toX), loginData(key, toX))).toMatch(
      /^no destination permits the step from here to a host with ED25519 key SHA256:\S+ as user alice$/,
    );
    const again = bindTo(host('a'), false);
    expect(reason(bound(atA, again), loginData(key, again, { user: 'eve\u001b[2J' }))).toBe(
      'no destination permits the step from host_a to host_a as user eve\\x1b[2J',
    );
    const beyond = permitted(destinations, bound(atA, bindTo(host('b'), true)), undefined, NOW);
    expect(beyond).toEqual({ ok: false, reason: 'no destination is permitted beyond host_b' });
  });

  it('takes an empty list for no destination at all', () => {
    const none = { blob: key, destinations: [] };
    expect(maySign(none, bound(toA), classify(loginData(key, toA)), NOW).ok).toBe(false);
    expect(permitted([], bound(toA), undefined, NOW).ok).toBe(false);
  });

  it('compares no user names that were not UTF-8', () => {
    const odd = [constraint(undefined, hop(host('a'), '\ufffd'))];
    expect(permitted(odd, bound(toA), '\ufffd', NOW).ok).toBe(false);
  });

  it('is free where the key has none', () => {
    expect(maySign({ blob: key }, noBindings, { kind: 'unidentified' }, NOW)).toEqual({ ok: true });
  });
});

describe('what ssh really did', () => {
  it.each([
    ['hop-a-b', 1],
    ['hop-a-b-d', 4],
  ] as const)('in %s is permitted by its own path and by no shorter one', (name, connection) => {
    const session = recorded(name);
    const { facts } = session;
    let bindings = noBindings;
    for (const request of session.connections[connection] ?? [])
      if (request.kind === 'extension') bindings = bindRequest(bindings, request.body).bindings;
    const signed = classify(signedIn(session)[connection] ?? raw());
    const path: DestinationConstraint[] = [];
    let from: ReturnType<typeof hop> | undefined;
    for (const { hostKey } of facts.binds?.[connection] ?? []) {
      const certificate = bindings.list[path.length]?.hostKey.certificate;
      const blob = certificate === undefined ? fromBase64Text(hostKey) : certificate.authority.blob;
      const hostname = certificate === undefined ? `host ${path.length}` : 'host-d';
      const to = { user: facts.user, hostname, keys: [{ blob, isAuthority: certificate !== undefined }] };
      path.push(constraint(from, to));
      from = { ...to, user: '' };
    }
    expect(path.length).toBeGreaterThan(1);
    const blob = fromBase64Text(facts.key);
    expect(maySign({ blob, destinations: path }, bindings, signed, NOW)).toEqual({ ok: true });
    for (let i = 0; i < path.length; i++) {
      const destinations = path.filter((_, at) => at !== i);
      expect(maySign({ blob, destinations }, bindings, signed, NOW)).toMatchObject({ ok: false });
    }
  });
});

describe('for any constraints and any bindings', () => {
  const names = fc.constantFrom(...'abcde');
  const anyConstraints = fc.array(
    fc.oneof(
      names,
      fc.tuple(names, names).map((pair) => pair.join('>')),
      fc.tuple(names, names).map(([from, to]) => `${from}>bob@${to}`),
    ),
    { maxLength: 8 },
  );
  const anyPath = fc.array(fc.tuple(names, fc.boolean()), { maxLength: 5 });

  it('more bindings never show what fewer hide, and what may sign may be seen all the way', () => {
    fc.assert(
      fc.property(anyConstraints, anyPath, names, (texts, steps, end) => {
        const destinations = constraints(...texts);
        const last = bindTo(host(end), false);
        let bindings = noBindings;
        let hidden = false;
        for (const request of [...steps.map(([name, forwarded]) => bindTo(host(name), forwarded)), last]) {
          bindings = bind(bindings, request).bindings;
          const { ok } = permitted(destinations, bindings, undefined, NOW);
          if (hidden) expect(ok).toBe(false);
          hidden = !ok;
        }
        const signed = classify(loginData(key, last));
        if (maySign({ blob: key, destinations }, bindings, signed, NOW).ok) {
          expect(hidden).toBe(false);
          expect(loginFitsBindings(signed.kind === 'login' ? signed : expect.unreachable(), bindings).ok).toBe(true);
        }
      }),
      { numRuns: 150 },
    );
  });

  it('fewer constraints never permit what more forbid', () => {
    fc.assert(
      fc.property(anyConstraints, anyConstraints, anyPath, (some, others, steps) => {
        let bindings = noBindings;
        for (const [name, forwarded] of steps) bindings = bind(bindings, bindTo(host(name), forwarded)).bindings;
        for (const user of [undefined, 'alice', 'bob'])
          if (permitted(constraints(...some), bindings, user, NOW).ok)
            expect(permitted(constraints(...some, ...others), bindings, user, NOW).ok).toBe(true);
      }),
      { numRuns: 100 },
    );
  });

  it('never throws, and each refusal has its reason', () => {
    const anyBytes = fc.uint8Array({ maxLength: 80 });
    const anyKeys = fc.array(fc.record({ blob: anyBytes, isAuthority: fc.boolean() }), { maxLength: 3 });
    const anyHop = fc.record({ user: fc.string(), hostname: fc.string(), keys: anyKeys });
    const anyDestinations = fc.array(fc.record({ from: anyHop, to: anyHop }), { maxLength: 4 });
    fc.assert(
      fc.property(
        anyDestinations,
        anyPath,
        fc.option(fc.string(), { nil: undefined }),
        anyBytes,
        (list, steps, user, d) => {
          let bindings = noBindings;
          for (const [name, forwarded] of steps) bindings = bind(bindings, bindTo(host(name), forwarded)).bindings;
          for (const permission of [
            permitted(list, bindings, user, NOW),
            maySign({ blob: key, destinations: list }, bindings, classify(d), NOW),
          ])
            if (!permission.ok) expect(permission.reason.length).toBeGreaterThan(10);
        },
      ),
    );
  });
});
