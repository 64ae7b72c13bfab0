// The keys of the benchmark and the bytes of the requests that add and remove them. Written by hand after RFC 9987,
// without our own writer: the benchmark measures any agent, and must not lean on one of them.
import { createPrivateKey, createPublicKey, generateKeyPairSync, verify } from 'node:crypto';

const u32 = (value) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const string = (value) => Buffer.concat([u32(value.length), Buffer.from(value)]);
const mpint = (base64url) => {
  const bytes = Buffer.from(base64url, 'base64url');
  return string(bytes[0] & 0x80 ? Buffer.concat([Buffer.alloc(1), bytes]) : bytes);
};
const frame = (...parts) => string(Buffer.concat(parts));

const ADD = 17;
const ADD_CONSTRAINED = 25;
const REMOVE_ALL = 19;
const CONSTRAIN_CONFIRM = 2;

/** The type of the key, the flags of its requests, and the name and hash of its signatures. */
export const TYPES = {
  ed25519: { label: 'Ed25519', flags: 0, signature: 'ssh-ed25519', hash: null },
  ecdsa: { label: 'ECDSA P-256', flags: 0, signature: 'ecdsa-sha2-nistp256', hash: 'sha256' },
  rsa3072: { label: 'RSA-3072', flags: 4, signature: 'rsa-sha2-512', hash: 'sha512' },
  rsa4096: { label: 'RSA-4096', flags: 4, signature: 'rsa-sha2-512', hash: 'sha512' },
};

/**
 * New key material as PKCS#8. Not as a KeyObject: exporting one as JWK right after it was made can deadlock Node 20, when
 * a garbage collection meanwhile frees another pair and waits for the same lock.
 */
const generate = (kind, options = {}) =>
  generateKeyPairSync(kind, {
    ...options,
    publicKeyEncoding: { type: 'spki', format: 'der' },
    privateKeyEncoding: { type: 'pkcs8', format: 'der' },
  });

const numbers = ({ privateKey }) =>
  createPrivateKey({ key: privateKey, format: 'der', type: 'pkcs8' }).export({ format: 'jwk' });

const RAW_ED25519_BYTES = 32;

/** A new key: its public blob, the private part of an add request, and its public half to check a signature. */
export function makeKey(type) {
  const pair = generate(...KINDS[type]);
  const made = (blob, parts) => ({ type, blob, parts, spki: pair.publicKey });
  if (type === 'ed25519') {
    // The raw halves end both encodings.
    const seed = pair.privateKey.subarray(-RAW_ED25519_BYTES);
    const point = pair.publicKey.subarray(-RAW_ED25519_BYTES);
    const blob = Buffer.concat([string('ssh-ed25519'), string(point)]);
    return made(blob, Buffer.concat([blob, string(Buffer.concat([seed, point]))]));
  }
  if (type === 'ecdsa') {
    const { d, x, y } = numbers(pair);
    const q = Buffer.concat([Buffer.from([4]), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
    const blob = Buffer.concat([string('ecdsa-sha2-nistp256'), string('nistp256'), string(q)]);
    return made(blob, Buffer.concat([blob, mpint(d)]));
  }
  const { n, e, d, qi, p, q } = numbers(pair);
  const blob = Buffer.concat([string('ssh-rsa'), mpint(e), mpint(n)]);
  return made(blob, Buffer.concat([string('ssh-rsa'), ...[n, e, d, qi, p, q].map(mpint)]));
}

const KINDS = {
  ed25519: ['ed25519'],
  ecdsa: ['ec', { namedCurve: 'P-256' }],
  rsa3072: ['rsa', { modulusLength: 3072 }],
  rsa4096: ['rsa', { modulusLength: 4096 }],
};

/** The framed request that adds it. */
export function addRequest(key, comment, confirm = false) {
  if (!confirm) return frame(Buffer.from([ADD]), key.parts, string(comment));
  return frame(Buffer.from([ADD_CONSTRAINED]), key.parts, string(comment), Buffer.from([CONSTRAIN_CONFIRM]));
}

export const removeAllRequest = () => frame(Buffer.from([REMOVE_ALL]));

/** Framed requests that add `count` Ed25519 keys. */
export function addMany(count) {
  const frames = [];
  for (let i = 0; i < count; i++) frames.push(addRequest(makeKey('ed25519'), `key ${i}`));
  return Buffer.concat(frames);
}

/** A sign request, and whether the whole message that came back is a right signature of it. */
export function signRequest(key, data) {
  return frame(Buffer.from([13]), string(key.blob), string(data), u32(TYPES[key.type].flags));
}

export function isSignature(key, data, message) {
  const field = (bytes) => [bytes.subarray(4, 4 + bytes.readUInt32BE(0)), bytes.subarray(4 + bytes.readUInt32BE(0))];
  const { signature, hash } = TYPES[key.type];
  if (message[0] !== 14) return false;
  const [name, rest] = field(field(message.subarray(1))[0]);
  if (name.toString() !== signature) return false;
  let raw = field(rest)[0];
  if (key.type === 'ecdsa') {
    const [r, more] = field(raw);
    const fixed = (number) => Buffer.concat([Buffer.alloc(32), number]).subarray(-32);
    raw = Buffer.concat([fixed(r), fixed(field(more)[0])]);
  }
  // RFC 8017 wants RSA signatures of full length; some agents drop leading zeros, as RFC 8332 section 3 tolerates.
  if (hash !== null && key.type !== 'ecdsa') {
    const full = Number(key.type.slice(3)) / 8;
    raw = Buffer.concat([Buffer.alloc(full), raw]).subarray(-full);
  }
  const publicKey = createPublicKey({ key: key.spki, format: 'der', type: 'spki' });
  return verify(hash, data, { key: publicKey, dsaEncoding: 'ieee-p1363' }, raw);
}
