import { describe, expect, it } from 'vitest';
import { parsePublicKey } from '../../../src/keys/publickey.ts';
import { defaultWebsafe, type WebsafeRules, websafe, withWebsafeOption } from '../../../src/policy/websafe.ts';
import { classify } from '../../../src/wire/signeddata.ts';
import { fill, raw, str, u32, u64 } from '../wire/build.ts';

const ED25519_SK = 'sk-ssh-ed25519@openssh.com';
const blobFor = (application: string, seed = 1): Uint8Array =>
  raw(str(ED25519_SK), str(fill(32, seed)), str(application));
const keyFor = (application: string) => parsePublicKey(blobFor(application));

const login = (blob: Uint8Array, algorithm = ED25519_SK): Uint8Array =>
  raw(str('session'), 50, str('alice'), str('ssh-connection'), str('publickey'), 1, str(algorithm), str(blob));
const hostbound = (blob: Uint8Array): Uint8Array =>
  raw(
    str('session'),
    50,
    str('alice'),
    str('ssh-connection'),
    str('publickey-hostbound-v00@openssh.com'),
    1,
    str(ED25519_SK),
    str(blob),
    str(raw(str('ssh-ed25519'), str(fill(32, 9)))),
  );
const sshsig = raw('SSHSIG', str('git'), str(''), str('sha512'), str(fill(64)));
const clientData = raw('{"type":"webauthn.get","challenge":"AAAA","origin":"https://bank.example"}');
const certificate = raw(
  str('ssh-ed25519-cert-v01@openssh.com'),
  str(fill(32)),
  str(fill(32, 3)),
  u64(1n),
  u32(1),
  str('id'),
  str(str('alice')),
  u64(0n),
  u64(99n),
  str(''),
  str(''),
  str(''),
  str(raw(str('ssh-ed25519'), str(fill(32, 9)))),
);

const allowed = (application: string, data: Uint8Array, rules: WebsafeRules = defaultWebsafe): boolean =>
  websafe(keyFor(application), classify(data), rules).ok;

describe('a security key made for SSH', () => {
  it.each(['ssh:', 'ssh:work', 'ssh:https://bank.example'])('with application %j signs anything', (application) => {
    for (const data of [sshsig, clientData, certificate, raw()]) expect(allowed(application, data)).toBe(true);
  });

  it('is no other key: one without an application is not restricted', () => {
    const plain = parsePublicKey(raw(str('ssh-ed25519'), str(fill(32))));
    expect(websafe(plain, classify(clientData), defaultWebsafe)).toEqual({ ok: true });
  });
});

describe.each(['https://bank.example', 'bank.example', '', 'SSH:', 'ssh', ' ssh:'])(
  'a security key with application %j',
  (application) => {
    const blob = blobFor(application);

    it('signs a login with itself, bound to a host or not, and SSHSIG', () => {
      for (const data of [login(blob), hostbound(blob), sshsig]) expect(allowed(application, data)).toBe(true);
    });

    it('signs no challenge of a web site, no certificate, no login with another key', () => {
      const webauthn = login(blob, 'webauthn-sk-ecdsa-sha2-nistp256@openssh.com');
      for (const data of [
        clientData,
        certificate,
        raw(),
        login(blobFor(application, 2)),
        login(blobFor('ssh:')),
        raw(login(blob), 0),
        raw(sshsig, 0),
        webauthn,
      ]) {
        const verdict = websafe(keyFor(application), classify(data), defaultWebsafe);
        expect(verdict.ok).toBe(false);
        expect(verdict).toHaveProperty('reason', expect.stringContaining('web sites'));
      }
    });
  },
);

describe("a security key's log-in by way of a browser", () => {
  const SK_ECDSA = 'sk-ecdsa-sha2-nistp256@openssh.com';
  const generator =
    '046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296' +
    '4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5';
  const point = new Uint8Array(Buffer.from(generator, 'hex'));
  const blob = raw(str(SK_ECDSA), str('nistp256'), str(point), str('https://bank.example'));
  const key = parsePublicKey(blob);
  const mayBe = (data: Uint8Array): boolean => websafe(key, classify(data), defaultWebsafe).ok;

  it('is a log-in, and what a browser would have signed for it is none', () => {
    const data = login(blob, 'webauthn-sk-ecdsa-sha2-nistp256@openssh.com');
    expect(mayBe(data)).toBe(true);
    expect(mayBe(login(blob, 'webauthn-sk-ecdsa-sha2-nistp256-cert-v01@openssh.com'))).toBe(false);
    const challenge = Buffer.from(data).toString('base64url');
    for (const text of [
      `{"type":"webauthn.get","challenge":"${challenge}","origin":"https://bank.example","crossOrigin":false}`,
      `{"type":"webauthn.create","challenge":"${challenge}","origin":"https://bank.example"}`,
      `{"challenge":"${challenge}","type":"webauthn.get"}`,
      `SSHSIG{"type":"webauthn.get"}`,
    ])
      expect(mayBe(raw(text))).toBe(false);
    // What the device itself signs: hash of the application, flags, counter, hash of the text.
    expect(mayBe(raw(fill(32, 1), 1, u32(7), fill(32, 2)))).toBe(false);
  });
});

describe('the options of ssh-agent', () => {
  const rulesOf = (...options: string[]): WebsafeRules =>
    options.reduce((rules: WebsafeRules, option) => withWebsafeOption(rules, option) as WebsafeRules, defaultWebsafe);

  it('no-restrict-websafe lifts the rule', () => {
    expect(allowed('https://bank.example', clientData, rulesOf('no-restrict-websafe'))).toBe(true);
  });

  it('websafe-allow takes the place of the default', () => {
    const rules = rulesOf('websafe-allow=https://*.example,!https://bank.*');
    expect(allowed('https://shop.example', clientData, rules)).toBe(true);
    expect(allowed('https://bank.example', clientData, rules)).toBe(false);
    expect(allowed('ssh:', clientData, rules)).toBe(false);
    expect(allowed('ssh:', clientData, rulesOf('websafe-allow='))).toBe(false);
  });

  it('websafe-allow comes once, and other options are not ours', () => {
    expect(withWebsafeOption(rulesOf('websafe-allow='), 'websafe-allow=x')).toBe('already-set');
    for (const option of ['allow-remote-pkcs11', 'websafe-allow', 'no-restrict-websafe=1', ''])
      expect(withWebsafeOption(defaultWebsafe, option)).toBeUndefined();
  });
});
