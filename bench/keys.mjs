// The keys of the benchmark and the bytes of the requests that add and remove them. Written by hand after RFC 9987,
// without our own writer: the benchmark measures any agent, and must not lean on one of them.
import { generateKeyPairSync, verify } from 'node:crypto';

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

/** A new key: its public blob, the private part of an add request, and how to check a signature. */
export function makeKey(type) {
  if (type === 'ed25519') {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    const { d, x } = privateKey.export({ format: 'jwk' });
    const [seed, point] = [Buffer.from(d, 'base64url'), Buffer.from(x, 'base64url')];
    const name = string('ssh-ed25519');
    const parts = Buffer.concat([name, string(point), string(Buffer.concat([seed, point]))]);
    return { type, blob: Buffer.concat([name, string(point)]), parts, publicKey };
  }
  if (type === 'ecdsa') {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const { d, x, y } = privateKey.export({ format: 'jwk' });
    const q = Buffer.concat([Buffer.from([4]), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
    const blob = Buffer.concat([string('ecdsa-sha2-nistp256'), string('nistp256'), string(q)]);
    return { type, blob, parts: Buffer.concat([blob, mpint(d)]), publicKey };
  }
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: Number(type.slice(3)) });
  const { n, e, d, qi, p, q } = privateKey.export({ format: 'jwk' });
  const name = string('ssh-rsa');
  const blob = Buffer.concat([name, mpint(e), mpint(n)]);
  return { type, blob, parts: Buffer.concat([name, ...[n, e, d, qi, p, q].map(mpint)]), publicKey };
}

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
  return verify(hash, data, { key: key.publicKey, dsaEncoding: 'ieee-p1363' }, raw);
}
