/** The client of ssh-sk-helper against one that says what it is told; the real one is in test/interop/fido.test.ts. */
import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import {
  findSkHelper,
  loadResidentKeys,
  MAX_KEY_HANDLE_BYTES,
  MAX_WAITING_FOR_DEVICE,
  SecurityKeyError,
  securityKeySigner,
} from '../../../src/backends/fido.ts';
import { Custody } from '../../../src/keys/custody.ts';
import { KeyError } from '../../../src/keys/error.ts';
import { fingerprint, parsePublicKey } from '../../../src/keys/publickey.ts';
import type { FieldValues } from '../../../src/wire/keyshapes.ts';
import { children } from '../../support/securitykey.ts';
import { fill, type Part, raw, str, u32 } from '../wire/build.ts';

const folder = mkdtempSync(join(tmpdir(), 'latchkey-fido-'));
const helper = join(folder, 'ssh-sk-helper');
const asked = join(folder, 'asked');
// It keeps what it was asked, and gives the answers in the files "0", "1", ... in turn; "hang" makes it hang.
writeFileSync(
  helper,
  `#!${process.execPath}
const { appendFileSync, existsSync, readFileSync, writeSync, rmSync } = require('node:fs');
let all = Buffer.alloc(0);
process.stdin.on('data', (chunk) => {
  all = Buffer.concat([all, chunk]);
  if (all.length < 4 || all.length < 4 + all.readUInt32BE()) return;
  appendFileSync(process.env.FOLDER + '/asked', all.toString('hex') + '\\n');
  if (existsSync(process.env.FOLDER + '/hang')) return setInterval(() => {}, 1000);
  const number = readFileSync(process.env.FOLDER + '/asked', 'utf8').split('\\n').length - 2;
  const answer = process.env.FOLDER + '/' + number;
  if (existsSync(answer + '.words')) writeSync(2, readFileSync(answer + '.words'));
  if (existsSync(answer)) writeSync(1, readFileSync(answer));
  process.exit();
});
`,
  { mode: 0o700 },
);

afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeEach(() => {
  for (const name of ['asked', 'hang', '0', '1', '2', '0.words']) rmSync(join(folder, name), { force: true });
});

const env = { PATH: '/usr/bin:/bin', SSH_SK_HELPER: helper, FOLDER: folder };
const TYPE = 'sk-ssh-ed25519@openssh.com';
const { publicKey: pk, privateKey } = generateKeyPairSync('ed25519');
const pkBytes = new Uint8Array(Buffer.from(pk.export({ format: 'jwk' }).x ?? '', 'base64url'));
const publicKey = parsePublicKey(raw(str(TYPE), str(pkBytes), str('ssh:')));
const data = raw('what is signed');
const sha256 = (bytes: Uint8Array | string): Buffer => createHash('sha256').update(bytes).digest();

const signatureOver = (signed: Uint8Array, key: KeyObject = privateKey): Uint8Array => {
  const tail = raw(1, u32(7));
  return raw(str(TYPE), str(sign(null, Buffer.concat([sha256('ssh:'), tail, sha256(signed)]), key)), tail);
};
const version = (...body: readonly Part[]): Uint8Array => str(5, ...body);
const signed = (signature: Uint8Array): Uint8Array => version(u32(1), str(signature));
const errorAnswer = (number: number): Uint8Array => version(u32(0), u32(number));

/** The answers of the helper, one for each request. */
function answers(...list: readonly Uint8Array[]): void {
  for (const [number, answer] of list.entries()) writeFileSync(join(folder, String(number)), answer);
}

const requests = (): string[] => (existsSync(asked) ? readFileSync(asked, 'utf8').trim().split('\n') : []);

interface Told {
  readonly notices: string[];
  readonly prompts: string[];
}

function signerWith(
  more: {
    flags?: number;
    provider?: string;
    pin?: () => Promise<Uint8Array | undefined>;
    custody?: Custody;
    times?: { device?: number; turn?: number; pin?: number };
    env?: Record<string, string>;
    fields?: FieldValues;
  } = {},
): { readonly signer: ReturnType<typeof securityKeySigner>; readonly told: Told; readonly custody: Custody } {
  const told: Told = { notices: [], prompts: [] };
  const custody = more.custody ?? new Custody();
  const fields = {
    flags: Uint8Array.of(more.flags ?? 1),
    keyHandle: raw('the handle'),
    reserved: raw('reserved'),
    ...more.fields,
  };
  const ports = {
    env: { ...env, ...more.env },
    notify: (text: string) => {
      told.notices.push(text);
      return () => told.notices.push('end');
    },
    askPin: (prompt: string) => {
      told.prompts.push(prompt);
      return more.pin?.() ?? Promise.resolve(undefined);
    },
    log: () => {},
  };
  const times = { device: 30_000, turn: 30_000, pin: 30_000, ...more.times };
  const signer = securityKeySigner(publicKey, fields, more.provider ?? '/lib/sk.so', custody, ports, times);
  return { signer, told, custody };
}

async function failure(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    if (error instanceof KeyError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'no failure';
}

describe('where the helper is', () => {
  it('is said by SSH_SK_HELPER, or is the first place that has it', () => {
    expect(findSkHelper({ SSH_SK_HELPER: '/x/y' }, () => false)).toBe('/x/y');
    expect(findSkHelper({ SSH_SK_HELPER: '' })).toBe('/usr/lib/openssh/ssh-sk-helper');
    expect(findSkHelper({}, (path) => path.includes('libexec'))).toBe('/usr/libexec/openssh/ssh-sk-helper');
    expect(findSkHelper({}, (path) => path.startsWith('/usr/libexec/ssh-'))).toBe('/usr/libexec/ssh-sk-helper');
    expect(findSkHelper({}, (path) => path.startsWith('/opt'))).toMatch(/homebrew.*libexec\/ssh-sk-helper$/);
    expect(findSkHelper({}, (path) => path.startsWith('/usr/libexec/ssh/'))).toBe('/usr/libexec/ssh/ssh-sk-helper');
    expect(findSkHelper({}, () => false)).toBeUndefined();
  });

  it('is found beside the ssh of PATH, before the one of macOS', () => {
    const prefix = join(realpathSync(folder), 'store/openssh');
    mkdirSync(join(prefix, 'bin'), { recursive: true });
    mkdirSync(join(prefix, 'libexec'));
    mkdirSync(join(folder, 'profile'));
    for (const file of ['bin/ssh', 'libexec/ssh-sk-helper']) writeFileSync(join(prefix, file), '');
    symlinkSync(join(prefix, 'bin/ssh'), join(folder, 'profile/ssh'));
    const beyond = (path: string): boolean =>
      path === '/usr/libexec/ssh-sk-helper' || (path.includes('latchkey-fido') && existsSync(path));
    const env = { PATH: `relative:${join(folder, 'none')}:${join(folder, 'profile')}:/usr/bin` };
    expect(findSkHelper(env, beyond)).toBe(join(prefix, 'libexec/ssh-sk-helper'));
    expect(findSkHelper({ PATH: '' }, beyond)).toBe('/usr/libexec/ssh-sk-helper');
  });
});

describe('a signature', () => {
  const asksFor = (pin: string): string =>
    Buffer.from(
      version(
        u32(1),
        1,
        u32(2),
        str(str(TYPE), str(pkBytes), str('ssh:'), 1, str('the handle'), str('reserved')),
        str('/lib/sk.so'),
        str(data),
        str(''),
        u32(0),
        str(pin),
      ),
    ).toString('hex');

  it('is asked for byte by byte as OpenSSH does, and handed on as it came', async () => {
    answers(signed(signatureOver(data)));
    const { signer, told, custody } = signerWith();
    expect(await signer.sign(data, 0)).toEqual(signatureOver(data));
    expect(requests()).toEqual([asksFor('')]);
    expect(told).toEqual({
      notices: [`Confirm user presence for key ED25519-SK ${fingerprint(publicKey)}`, 'end'],
      prompts: [],
    });
    signer.dispose();
    signer.dispose();
    expect(custody.status().usedBytes).toBe(0);
    expect(await failure(signer.sign(data, 0))).toBe('internal: the key was removed');
  });

  it('is of the bytes that were given, whatever the caller does with them afterwards', async () => {
    answers(signed(signatureOver(data)));
    const frame = Uint8Array.from(data);
    const waiting = signerWith().signer.sign(frame, 0);
    frame.fill(0);
    expect(await waiting).toEqual(signatureOver(data));
  });

  it('says what a touch is for where that is known, and nothing where no touch is due', async () => {
    answers(signed(signatureOver(data)), signed(signatureOver(data)));
    const { signer, told } = signerWith();
    await signer.sign(data, 0, undefined, 'to log in');
    expect(told.notices[0]).toBe(`Confirm user presence for key ED25519-SK ${fingerprint(publicKey)}\nto log in`);
    const quiet = signerWith({ flags: 0x20 });
    await quiet.signer.sign(data, 0);
    expect(quiet.told.notices).toEqual([]);
  });

  it('is tried without a PIN first, then with the one that a person gave, which is wiped', async () => {
    answers(errorAnswer(43), signed(signatureOver(data)));
    const pin = raw('1234');
    const { signer, told } = signerWith({ flags: 5, pin: async () => pin });
    expect(await signer.sign(data, 0)).toEqual(signatureOver(data));
    const withFlags = (hex: string): string => hex.replace('7373683a01', '7373683a05');
    expect(requests()).toEqual([withFlags(asksFor('')), withFlags(asksFor('1234'))]);
    expect(told.prompts).toEqual([
      `Enter PIN and confirm user presence for ED25519-SK key ${fingerprint(publicKey)}: `,
    ]);
    expect(told.notices.map((text) => text.slice(0, 7))).toEqual(['Confirm', 'end', 'Confirm', 'end']);
    expect(pin).toEqual(fill(4, 0));
  });

  it('is not tried a third time', async () => {
    answers(errorAnswer(43), errorAnswer(43), signed(signatureOver(data)));
    const { signer, told } = signerWith({ flags: 4, pin: async () => raw('4321') });
    expect(await failure(signer.sign(data, 0))).toBe('wrong-passphrase: wrong PIN: the security key counts wrong ones');
    expect(told.prompts).toEqual([`Enter PIN for ED25519-SK key ${fingerprint(publicKey)}: `]);
    expect(requests()).toHaveLength(2);
  });

  it.each([
    ['none', undefined],
    ['an empty one', raw()],
    ['one with a NUL', raw('12', 0)],
  ])('costs the device no try where the PIN is %s', async (_, pin) => {
    answers(errorAnswer(43), signed(signatureOver(data)));
    const { signer } = signerWith({ pin: async () => pin });
    expect(await failure(signer.sign(data, 0))).toMatch(/^needs-passphrase: /);
    expect(requests()).toHaveLength(1);
  });

  it('does not wait for ever for a PIN; one that comes too late is wiped', async () => {
    answers(errorAnswer(43));
    const late = raw('1234');
    let give: (pin: Uint8Array) => void = () => {};
    const pin = new Promise<Uint8Array>((resolve) => {
      give = resolve;
    });
    const { signer, custody } = signerWith({ times: { pin: 20 }, pin: () => pin });
    expect(await failure(signer.sign(data, 0))).toMatch(/^needs-passphrase: /);
    give(late);
    await new Promise((resolve) => setTimeout(resolve, 0));
    expect(late).toEqual(fill(4, 0));
    signer.dispose();
    expect(custody.status().usedBytes).toBe(0);
  });

  it('is not handed on where it is wrong', async () => {
    const other = generateKeyPairSync('ed25519').privateKey;
    const right = signatureOver(data);
    for (const wrong of [signatureOver(raw('other')), signatureOver(data, other), right.subarray(1), raw(right, 0)]) {
      rmSync(asked, { force: true });
      answers(signed(wrong));
      expect(await failure(signerWith().signer.sign(data, 0))).toBe(
        'internal: the security key gave a wrong signature',
      );
    }
  });

  it.each([
    ['error 60', errorAnswer(60), 'internal: no security key with this key is plugged in'],
    ['error 4', errorAnswer(4), 'internal: the security key or its provider refused'],
    ['error 59', errorAnswer(59), 'unsupported: the security key or its provider cannot do this'],
    ['an unknown error', errorAnswer(777), 'internal: the helper failed with error 777'],
    ['another version', str(6, u32(1), str('')), 'internal: ssh-sk-helper speaks version 6, not 5'],
    ['another answer', version(u32(3)), 'internal: ssh-sk-helper answered another request'],
    ['an answer cut short', version(u32(1), u32(9)), "internal: ssh-sk-helper's answer makes no sense"],
    ['no answer in its frame', str(), "internal: ssh-sk-helper's answer makes no sense"],
    ['bytes after the signature', version(u32(1), str('x'), 0), "internal: ssh-sk-helper's answer makes no sense"],
    [
      'garbage',
      raw('usage: ssh-sk-helper'),
      'internal: security key: its answer would have 1970495847 bytes, and 262144 are the most',
    ],
    ['nothing', raw(), 'internal: security key: it ended with 0 and no answer'],
  ])('fails in words on %s', async (_, answer, words) => {
    answers(answer);
    expect(await failure(signerWith().signer.sign(data, 0))).toBe(words);
  });

  it("tells the helper's last words, made safe", async () => {
    answers(errorAnswer(4));
    writeFileSync(join(folder, '0.words'), 'first\r\nProvider \x1b[2J is none\r\n');
    expect(await failure(signerWith().signer.sign(data, 0))).toBe(
      'internal: the security key or its provider refused (Provider \\x1b[2J is none)',
    );
  });

  it('fails in words where the helper is missing', async () => {
    const { signer } = signerWith({ env: { SSH_SK_HELPER: join(folder, 'missing') } });
    expect(await failure(signer.sign(data, 0))).toMatch(/^unsupported: ssh-sk-helper can't be started/);
  });

  it('ends with its time, or when it is withdrawn, and so does the helper', async () => {
    writeFileSync(join(folder, 'hang'), '');
    const { signer, told } = signerWith({ times: { device: 300 } });
    expect(await failure(signer.sign(data, 0))).toBe('internal: security key: no answer within 0.3 s');
    expect(told.notices.at(-1)).toBe('end');
    const controller = new AbortController();
    const patient = signerWith();
    const waiting = failure(patient.signer.sign(data, 0, controller.signal));
    setTimeout(() => controller.abort(), 100);
    expect(await waiting).toBe('internal: security key: the request was withdrawn');
    expect(await failure(patient.signer.sign(data, 0, controller.signal))).toContain('withdrawn');
    expect(children()).toEqual([]);
  });

  it('waits for others of the same device alone, and only so many may wait', async () => {
    writeFileSync(join(folder, 'hang'), '');
    const first = new AbortController();
    const hung = failure(signerWith({ provider: 'Internal' }).signer.sign(data, 0, first.signal));
    const { signer, told } = signerWith({ provider: 'internal', times: { turn: 200 } });
    const waiting = Array.from({ length: MAX_WAITING_FOR_DEVICE }, () => failure(signer.sign(data, 0)));
    expect(await failure(signer.sign(data, 0))).toBe(
      `internal: security key: ${MAX_WAITING_FOR_DEVICE} requests wait for it already`,
    );
    expect(new Set(await Promise.all(waiting))).toEqual(
      new Set(['internal: security key: it is busy with another request']),
    );
    expect(told.notices).toEqual([]);
    while (requests().length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    rmSync(join(folder, 'hang'));
    rmSync(asked);
    answers(signed(signatureOver(data)));
    expect(await signerWith({ provider: '/another.so' }).signer.sign(data, 0)).toEqual(signatureOver(data));
    first.abort();
    expect(await hung).toContain('withdrawn');
  });
});

describe('a key', () => {
  const plain = parsePublicKey(raw(str('ssh-ed25519'), str(pkBytes)));
  const refusal = (work: () => unknown): string => {
    try {
      work();
    } catch (error) {
      if (error instanceof KeyError) return error.code;
      throw error;
    }
    return 'taken';
  };

  it('without handle or flags, with one too long, or that is no security key, is refused and leaves nothing', () => {
    const custody = new Custody();
    const ports = { env, notify: () => () => {}, askPin: async () => undefined, log: () => {} };
    const good = { flags: Uint8Array.of(1), keyHandle: raw('x'), reserved: raw() };
    const make = (fields: FieldValues, provider = 'internal', key = publicKey) =>
      refusal(() => securityKeySigner(key, fields, provider, custody, ports));
    expect(make({ ...good, keyHandle: raw() })).toBe('out-of-bounds');
    expect(make({ ...good, keyHandle: fill(MAX_KEY_HANDLE_BYTES + 1) })).toBe('out-of-bounds');
    expect(make({ ...good, reserved: fill(MAX_KEY_HANDLE_BYTES + 1) })).toBe('out-of-bounds');
    expect(make({ ...good, flags: raw() })).toBe('malformed');
    expect(make({ flags: Uint8Array.of(1), reserved: raw() })).toBe('malformed');
    expect(make(good, '')).toBe('malformed');
    expect(make(good, 'a\0b')).toBe('malformed');
    expect(make(good, 'internal', plain)).toBe('unsupported');
    expect(custody.status().usedBytes).toBe(0);
    expect(make({ ...good, keyHandle: fill(MAX_KEY_HANDLE_BYTES) })).toBe('taken');
  });

  it('is encrypted by a lock, and signs again afterwards', async () => {
    answers(signed(signatureOver(data)));
    const custody = new Custody({ lockCost: { n: 16, r: 1, p: 1 } });
    const { signer } = signerWith({ custody });
    await custody.seal(raw('phrase'));
    await custody.unseal(raw('phrase'));
    expect(await signer.sign(data, 0)).toEqual(signatureOver(data));
  });

  it('that is signing when the agent is locked still sends its own handle', async () => {
    answers(signed(signatureOver(data)), signed(signatureOver(data)));
    const custody = new Custody({ lockCost: { n: 16, r: 1, p: 1 } });
    const { signer } = signerWith({ custody });
    // The second waits for its turn while the slot turns into ciphertext.
    const both = Promise.all([signer.sign(data, 0), signer.sign(data, 0)]);
    await custody.seal(raw('phrase'));
    await both;
    const handle = Buffer.from('the handle').toString('hex');
    expect(requests().every((request) => request.includes(handle))).toBe(true);
    expect(requests()).toHaveLength(2);
  });
});

describe('resident keys', () => {
  const key = (application: string): Uint8Array =>
    str(str(TYPE), str(pkBytes), str(application), 0x21, str('handle'), str(''));

  it('are asked for byte by byte as OpenSSH does, and come with their application as comment', async () => {
    answers(version(u32(3), key('ssh:a'), str(''), str('user'), key('ssh:b'), str('ignored'), str('')));
    const keys = await loadResidentKeys('/lib/sk.so', raw('1234'), env);
    expect(keys.map(({ comment }) => comment)).toEqual(['ssh:a', 'ssh:b']);
    expect(keys[0]?.key.type).toBe(TYPE);
    expect(Buffer.from(keys[0]?.key.fields.keyHandle as Uint8Array).toString()).toBe('handle');
    const expected = version(u32(3), 1, u32(2), str('/lib/sk.so'), str(''), str('1234'), u32(0));
    expect(requests()).toEqual([Buffer.from(expected).toString('hex')]);
  });

  it('may be none', async () => {
    answers(version(u32(3)));
    expect(await loadResidentKeys('internal', undefined, env)).toEqual([]);
  });

  it.each([
    ['a wrong PIN', errorAnswer(43), 'incorrect passphrase supplied to decrypt private key'],
    ['no device', errorAnswer(60), 'device not found'],
    ['half a key', version(u32(3), key('ssh:a'), str('')), 'invalid format'],
    [
      'a key of another kind',
      version(u32(3), str(str('ssh-ed25519'), str(pkBytes), str('x')), str(''), str('')),
      'invalid format',
    ],
    ['an answer to a signature', version(u32(1), str('')), 'unexpected internal error'],
  ])('fail with the words of OpenSSH on %s', async (_, answer, words) => {
    answers(answer);
    const error = await loadResidentKeys('internal', undefined, env).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(SecurityKeyError);
    expect((error as SecurityKeyError).opensshText).toBe(words);
  });
});
