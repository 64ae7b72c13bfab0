/**
 * Recorded messages, decoded and compared with what was asked; and requests to add a key, recorded as the tests run,
 * since they hold private keys.
 */
import { createPrivateKey, generateKeyPairSync, type JsonWebKey } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decodeSessionBind, encodeSessionBind, type SessionBind } from '../../../src/wire/extensions.ts';
import { encodeFrame, frameLength } from '../../../src/wire/frame.ts';
import { decodeRequest, encodeRequest, type Request } from '../../../src/wire/requests.ts';
import { decodeResponse, encodeResponse, type Response } from '../../../src/wire/responses.ts';
import { fill, fromPub, raw, str, u32 } from './build.ts';
import { type Bench, openBench } from './openssh.ts';
import { expectWireError, wireError } from './thrown.ts';
import { vectors } from './vectorfiles.ts';

type Message = Request | Response;
interface Codec {
  readonly decode: (message: Uint8Array) => Message;
  readonly encode: (value: unknown) => Uint8Array;
}
const codecs = {
  request: { decode: decodeRequest, encode: (value) => encodeRequest(value as Request).finish() },
  response: { decode: decodeResponse, encode: (value) => encodeResponse(value as Response) },
} satisfies Record<string, Codec>;

/** A cut is refused, or reads as something else: never as the whole, never another exception. */
function expectCutsRefused({ decode }: Codec, message: Uint8Array, whole: unknown): void {
  for (let length = 0; length < message.length; length++) {
    let value: Message;
    try {
      value = decode(message.subarray(0, length));
    } catch (error) {
      expect((error as Error).name).toBe('WireError');
      continue;
    }
    expect(value).not.toEqual(whole);
  }
}

/** Kinds that go to the end of the message, whatever is there. */
const openEnded = new Set(['extension', 'extensionResponse', 'unknown', 'failure']);
/** Kinds that end in constraints, of which a stray byte would be one. */
const constrained = new Set(['add', 'addToken', 'removeToken']);

function expectMoreRefused({ decode }: Codec, message: Uint8Array, kind: string): void {
  if (openEnded.has(kind)) return;
  expectWireError(() => decode(raw(message, 0)), constrained.has(kind) ? 'unknown-constraint' : 'trailing');
}

describe.each(vectors.map((vector) => [vector.name, vector] as const))('%s', (_, vector) => {
  const codec = codecs[vector.direction];

  it('is one frame', () => {
    expect(frameLength(vector.frame)).toBe(vector.frame.length - 4);
    expect(encodeFrame(vector.message)).toEqual(vector.frame);
  });

  it('decodes to what was asked', () => {
    expect(codec.decode(vector.message)).toEqual(vector.value);
  });

  it('encodes to the recorded bytes again', () => {
    expect(raw(codec.encode(vector.value), vector.ignored)).toEqual(vector.message);
  });

  it('is refused or another message at every cut', () => {
    const whole = vector.message.subarray(0, vector.message.length - vector.ignored.length);
    expectCutsRefused(codec, whole, vector.value);
  });

  it('is refused with a byte more, where it has an end', () => {
    expectMoreRefused(codec, vector.message, String(vector.value.kind));
  });
});

describe('the recorded bindings', () => {
  const binds = vectors.filter(({ bind }) => bind !== undefined);

  it('are there', () => {
    expect(binds.map(({ name }) => name)).toEqual(['session-bind-forwarded', 'session-bind']);
  });

  it.each(binds.map((vector) => [vector.name, vector] as const))('%s: body', (_, { bind, value }) => {
    const body = value.body as Uint8Array;
    expect(decodeSessionBind(body)).toEqual(bind);
    expect(encodeSessionBind(bind as SessionBind)).toEqual(body);
    for (let length = 0; length < body.length; length++)
      expect(wireError(() => decodeSessionBind(body.subarray(0, length))).code).toBe('short');
    expectWireError(() => decodeSessionBind(raw(body, 0)), 'trailing');
  });
});

it('no recorded request adds a key', () => {
  expect(vectors.length).toBeGreaterThan(30);
  const numbers = vectors.filter(({ direction }) => direction === 'request').map(({ message }) => message[0]);
  for (const number of numbers) expect([17, 25, 7, 24]).not.toContain(number);
});

// ---------------------------------------------------------------------------------------------------------------------

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
  await bench.keygen('authority', '-t', 'ed25519');
});
afterAll(() => bench.close());

/** Sends one message to the real agent and gives its answer. */
function ask(message: Uint8Array): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect(bench.path('agent'), () => socket.write(raw(u32(message.length), message)));
    socket.once('error', reject);
    socket.once('data', (chunk) => {
      socket.destroy();
      resolve(chunk[4]);
    });
  });
}

/** Runs ssh-add and gives the requests that it sent, each of which the agent took. */
async function added(...args: readonly string[]): Promise<Uint8Array[]> {
  bench.proxy.take();
  await bench.run('ssh-add', '-q', ...args);
  const seen = bench.proxy.take();
  const answers = seen.filter(({ direction }) => direction === 'response');
  for (const { frame } of answers) expect(frame[4]).toBe(6);
  return seen.filter(({ direction }) => direction === 'request').map(({ frame }) => frame.slice(4));
}

async function expectAdded(message: Uint8Array | undefined, expected: Request): Promise<void> {
  if (message === undefined) throw new Error('nothing was sent');
  const codec = codecs.request;
  const value = codec.decode(message);
  // Not toEqual(): what it prints where it fails would be a private key.
  expect(sameRequest(value, expected)).toBe(true);
  const again = codec.encode(value);
  expect(Buffer.compare(again, message)).toBe(0);
  for (let length = 0; length < message.length; length++) {
    const cut = outcome(() => codec.decode(message.subarray(0, length)));
    expect(cut === 'WireError' || (typeof cut === 'object' && !sameRequest(cut as Request, expected))).toBe(true);
  }
  expectMoreRefused(codec, message, 'add');
  expect(await ask(again)).toBe(6);
}

const outcome = (act: () => unknown): unknown => {
  try {
    return act();
  } catch (error) {
    return (error as Error).name;
  }
};

const plain = (value: unknown): string =>
  JSON.stringify(value, (_, inner) => (inner instanceof Uint8Array ? Buffer.from(inner).toString('hex') : inner), 0);
const sorted = (fields: object): object => Object.fromEntries(Object.entries(fields).sort());
function sameRequest(a: Request, b: Request): boolean {
  if (a.kind !== 'add' || b.kind !== 'add') return false;
  const flat = ({ key, comment, constraints }: typeof a): string =>
    plain([key.type, key.certificate, sorted(key.fields), comment, sorted(constraints)]);
  return flat(a) === flat(b);
}

const number = (value: string | undefined): Uint8Array => {
  const bytes = new Uint8Array(Buffer.from(value ?? '', 'base64url'));
  const first = bytes.findIndex((byte) => byte !== 0);
  return first < 0 ? new Uint8Array(0) : bytes.subarray(first);
};
const exact = (value: string | undefined): Uint8Array => new Uint8Array(Buffer.from(value ?? '', 'base64url'));

/** Private numbers of a key in PEM, by node:crypto and so apart from anything of ours. */
const jwk = (name: string): JsonWebKey => createPrivateKey(bench.read(name)).export({ format: 'jwk' });

/** The parts of an unencrypted OpenSSH ed25519 key file, at their fixed places. */
function ed25519Parts(name: string): { pk: Uint8Array; sk: Uint8Array } {
  const body = Buffer.from(bench.read(name).replace(/-----[^-]+-----|\s/g, ''), 'base64');
  const pk = fromPub(bench.read(`${name}.pub`)).subarray(19);
  const at = body.indexOf(Buffer.from(pk), body.indexOf(Buffer.from(pk)) + 1) + 32 + 4;
  return { pk, sk: new Uint8Array(body.subarray(at, at + 64)) };
}

/** Each key type of ssh-keygen 9.2: how it is made, and its fields in a request to add it. */
const made: Record<
  string,
  { args: string[]; type: string; fields: (name: string) => Record<string, Uint8Array>; beside: string[] }
> = {
  ed25519: { args: ['-t', 'ed25519'], type: 'ssh-ed25519', fields: ed25519Parts, beside: ['pk', 'sk'] },
  rsa: {
    args: ['-t', 'rsa', '-b', '2048', '-m', 'PEM'],
    type: 'ssh-rsa',
    fields: (name) => {
      const key = jwk(name);
      const of = (field: unknown): Uint8Array => number(field as string);
      return { n: of(key.n), e: of(key.e), d: of(key.d), iqmp: of(key.qi), p: of(key.p), q: of(key.q) };
    },
    beside: ['d', 'iqmp', 'p', 'q'],
  },
};
for (const [bits, curve] of [
  ['256', 'nistp256'],
  ['384', 'nistp384'],
  ['521', 'nistp521'],
] as const) {
  made[`ecdsa${bits}`] = {
    args: ['-t', 'ecdsa', '-b', bits, '-m', 'PEM'],
    type: `ecdsa-sha2-${curve}`,
    fields: (name) => {
      const key = jwk(name);
      return { curve: raw(curve), q: raw(4, exact(key.x), exact(key.y)), d: number(key.d) };
    },
    beside: ['d'],
  };
}

const pick = (fields: Record<string, Uint8Array>, names: readonly string[]): Record<string, Uint8Array> =>
  Object.fromEntries(names.map((name) => [name, fields[name] ?? new Uint8Array(0)]));

describe('what ssh-add says to add a key', () => {
  it.each(Object.entries(made))(
    '%s, alone, with its certificate, and with bounds',
    async (name, { args, type, fields, beside }) => {
      await bench.keygen(name, ...args);
      const values = fields(name);
      const key = { type, fields: values };
      // A key in PEM has no comment: ssh-add takes the path for it.
      const comment = args.includes('PEM') ? bench.path(name) : `${name} comment`;

      const [alone, none] = await added(bench.path(name));
      expect([alone?.[0], none]).toEqual([17, undefined]);
      await expectAdded(alone, { kind: 'add', key, comment, constraints: {} });

      const sign = ['-q', '-s', bench.path('authority'), '-I', 'id', '-n', 'somebody'];
      await bench.run('ssh-keygen', ...sign, bench.path(`${name}.pub`));
      const certificate = fromPub(bench.read(`${name}-cert.pub`));
      const requests = await added('-t', '10m', '-c', bench.path(name));
      expect(requests.map(([first]) => first)).toEqual([25, 25]);
      const constraints = { lifetime: 600, confirm: true } as const;
      await expectAdded(requests[0], { kind: 'add', key, comment, constraints });
      await expectAdded(requests[1], {
        kind: 'add',
        key: { type: `${type}-cert-v01@openssh.com`, certificate, fields: pick(values, beside) },
        comment,
        constraints,
      });
    },
  );

  it('with destinations', async () => {
    await bench.keygen('bound', '-t', 'ed25519');
    await bench.keygen('near', '-t', 'ed25519');
    const [near, authority] = [bench.read('near.pub'), bench.read('authority.pub')];
    writeFileSync(bench.path('known'), `near ${near}@cert-authority *.far ${authority}`);
    const steps = ['-H', bench.path('known'), '-h', 'near', '-h', 'near>me@x.far'];
    const [message] = await added(...steps, bench.path('bound'));
    const hop = { user: '', hostname: 'near', keys: [{ blob: fromPub(near), isAuthority: false }] };
    await expectAdded(message, {
      kind: 'add',
      key: { type: 'ssh-ed25519', fields: ed25519Parts('bound') },
      comment: 'bound comment',
      constraints: {
        destinations: [
          { from: { user: '', hostname: '', keys: [] }, to: hop },
          { from: hop, to: { user: 'me', hostname: 'x.far', keys: [{ blob: fromPub(authority), isAuthority: true }] } },
        ],
      },
    });
  });
});

/** An unencrypted OpenSSH key file, since ssh-keygen makes none for a security key without the device. */
function keyFile(publicBlob: Uint8Array, privatePart: Uint8Array): string {
  const unpadded = raw(u32(7), u32(7), privatePart);
  const padding = Array.from({ length: (8 - (unpadded.length % 8)) % 8 }, (_, i) => i + 1);
  const file = raw(
    'openssh-key-v1',
    0,
    str('none'),
    str('none'),
    str(),
    u32(1),
    str(publicBlob),
    str(unpadded, ...padding),
  );
  const lines = Buffer.from(file).toString('base64').replace(/.{70}/g, '$&\n');
  return `-----BEGIN OPENSSH PRIVATE KEY-----\n${lines}\n-----END OPENSSH PRIVATE KEY-----\n`;
}

describe('what ssh-add says to add a security key', () => {
  const handle = fill(64, 0x5a);
  const tail = { application: raw('ssh:'), flags: raw(1), keyHandle: handle, reserved: raw() };
  const point = (): Uint8Array => {
    const { x, y } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).publicKey.export({ format: 'jwk' });
    return raw(4, exact(x), exact(y));
  };
  const ed = exact(generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }).x);

  it.each([
    ['sk-ssh-ed25519', { pk: ed }, ['pk', 'application', 'flags', 'keyHandle', 'reserved']],
    [
      'sk-ecdsa-sha2-nistp256',
      { curve: raw('nistp256'), q: point() },
      ['application', 'flags', 'keyHandle', 'reserved'],
    ],
  ] as const)('%s, alone and with its certificate', async (name, head, beside) => {
    const type = `${name}@openssh.com`;
    const open = raw(...Object.values(head).map((value) => str(value)), str('ssh:'));
    const blob = raw(str(type), open);
    const file = keyFile(blob, raw(str(type), open, 1, str(handle), str(), str('sk comment')));
    writeFileSync(bench.path(name), file, { mode: 0o600 });
    writeFileSync(bench.path(`${name}.pub`), `${type} ${Buffer.from(blob).toString('base64')} sk comment\n`);
    const sign = ['-q', '-s', bench.path('authority'), '-I', 'id', '-n', 'somebody'];
    await bench.run('ssh-keygen', ...sign, bench.path(`${name}.pub`));

    const requests = await added('-S', 'internal', bench.path(name));
    expect(requests.map(([first]) => first)).toEqual([25, 25]);
    const fields = { ...head, ...tail };
    const constraints = { skProvider: 'internal' };
    await expectAdded(requests[0], { kind: 'add', key: { type, fields }, comment: 'sk comment', constraints });
    await expectAdded(requests[1], {
      kind: 'add',
      key: {
        type: `${name}-cert-v01@openssh.com`,
        certificate: fromPub(bench.read(`${name}-cert.pub`)),
        fields: pick(fields, beside),
      },
      comment: 'sk comment',
      constraints,
    });
  });
});
