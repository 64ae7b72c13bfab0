/**
 * What a signature is asked for: a login (RFC 4252 section 7, and host-bound as in OpenSSH's PROTOCOL section 3.1), an
 * SSHSIG (OpenSSH's PROTOCOL.sshsig section 3), a certificate to be signed (draft-miller-ssh-cert), sudo through
 * pam_ssh_agent_auth (its data has no specification: version 101 as 0.10.3 makes it), a web login (webclientdata.ts), or
 * unidentified bytes.
 *
 * They can't be taken for each other: the byte after the first string, or the first four bytes, differ, and no message is
 * so long that JSON's first bytes could be the length of a string. Everything is what the asker claims; only a session
 * binding shows whether a login's session is real.
 */
import { utf8 } from './bytes.ts';
import { type CertificateBody, type CertificateOption, readCertificateBody } from './certificatebody.ts';
import { WireError } from './error.ts';
import { keyShape, keyTypeBehind, readFields } from './keyshapes.ts';
import { Reader } from './reader.ts';
import { readClientData, type WebLogin } from './webclientdata.ts';

export const PUBLICKEY = 'publickey';
export const PUBLICKEY_HOSTBOUND = 'publickey-hostbound-v00@openssh.com';

/** Words of a command that sudo asks for; the module itself keeps fewer. */
export const MAX_COMMAND_WORDS = 4096;

const USERAUTH_REQUEST = 50;
/** pam_ssh_agent_auth's own message number. */
const USERAUTH_TRUST_REQUEST = 54;
const SUDO_VERSION = 101;
const SSHSIG_MAGIC = utf8('SSHSIG');
const HASH_BYTES: ReadonlyMap<string, number> = new Map([
  ['sha256', 32],
  ['sha512', 64],
]);

export interface Login {
  readonly kind: 'login';
  readonly sessionId: Uint8Array;
  readonly user: string;
  readonly service: string;
  readonly method: typeof PUBLICKEY | typeof PUBLICKEY_HOSTBOUND;
  readonly algorithm: string;
  readonly keyBlob: Uint8Array;
  /** With the host-bound method alone. */
  readonly hostKey?: Uint8Array;
}

export interface FileSignature {
  readonly kind: 'sshsig';
  /** 'git', 'file', ...; not empty. */
  readonly namespace: string;
  readonly reserved: Uint8Array;
  readonly hashAlgorithm: string;
  readonly hash: Uint8Array;
}

export interface UnsignedCertificate extends Omit<CertificateBody, 'criticalOptions' | 'extensions'> {
  readonly kind: 'certificate';
  /** The certificate type. */
  readonly type: string;
  /** Names alone, in their order. */
  readonly criticalOptions: readonly string[];
  readonly extensions: readonly string[];
}

export interface Sudo {
  readonly kind: 'sudo';
  /** Whose password is spared: su's new user, but for sudo the one who asks. */
  readonly user: string;
  /** Who asks, and whose agent this is. */
  readonly ruser: string;
  /** The PAM service: 'sudo', 'su', ... */
  readonly service: string;
  readonly cwd: string;
  /** Empty where the module could not tell. */
  readonly argv: readonly string[];
  readonly hostname: string;
  /** Seconds since 1970, by that host's clock. */
  readonly time: bigint;
  readonly algorithm: string;
  readonly keyBlob: Uint8Array;
}

export type SignedData =
  | Login
  | FileSignature
  | UnsignedCertificate
  | Sudo
  | WebLogin
  | { readonly kind: 'unidentified' };

const unidentified: SignedData = Object.freeze({ kind: 'unidentified' });

/** Says what `data` is. Never throws; byte arrays in the result are views of `data`. */
export function classify(data: Uint8Array): SignedData {
  const web = readClientData(data);
  if (web !== undefined) return web;
  try {
    if (startsWith(data, SSHSIG_MAGIC)) return decodeFileSignature(data);
    const reader = new Reader(data);
    const first = reader.string('first string');
    const next = reader.u8('message number');
    if (next === USERAUTH_REQUEST) return decodeLogin(first, reader);
    if (next === USERAUTH_TRUST_REQUEST) return decodeSudo(first, reader);
    return decodeCertificate(data);
  } catch (error) {
    if (error instanceof WireError) return unidentified;
    throw error;
  }
}

function startsWith(data: Uint8Array, prefix: Uint8Array): boolean {
  return data.length >= prefix.length && prefix.every((byte, i) => data[i] === byte);
}

function demand(condition: boolean, field: string): void {
  if (!condition) throw new WireError('bad-value', field);
}

/** The key's algorithm and blob, whose types must be one. */
function decodeKey(reader: Reader): { readonly algorithm: string; readonly keyBlob: Uint8Array } {
  demand(reader.u8('has signature') === 1, 'has signature');
  const algorithm = reader.text('algorithm');
  const keyBlob = reader.string('key blob');
  const type = keyTypeBehind(algorithm);
  demand(keyShape(type) !== undefined, 'algorithm');
  demand(new Reader(keyBlob).text('key type') === type, 'key type');
  return { algorithm, keyBlob };
}

function decodeLogin(sessionId: Uint8Array, reader: Reader): Login {
  demand(sessionId.length > 0, 'session identifier');
  const user = reader.text('user');
  const service = reader.text('service');
  demand(service === 'ssh-connection', 'service');
  const method = reader.text('method');
  if (method !== PUBLICKEY && method !== PUBLICKEY_HOSTBOUND) throw new WireError('bad-value', 'method');
  const { algorithm, keyBlob } = decodeKey(reader);
  const login: Login = { kind: 'login', sessionId, user, service, method, algorithm, keyBlob };
  if (method === PUBLICKEY) {
    reader.end('login');
    return login;
  }
  const hostKey = reader.string('host key');
  demand(keyShape(new Reader(hostKey).text('host key type')) !== undefined, 'host key type');
  reader.end('login');
  return { ...login, hostKey };
}

function decodeFileSignature(data: Uint8Array): FileSignature {
  const reader = new Reader(data.subarray(SSHSIG_MAGIC.length));
  const namespace = reader.text('namespace');
  demand(namespace !== '', 'namespace');
  const reserved = reader.string('reserved');
  const hashAlgorithm = reader.text('hash algorithm');
  const hash = reader.string('hash');
  demand(hash.length === HASH_BYTES.get(hashAlgorithm), 'hash');
  reader.end('sshsig');
  return { kind: 'sshsig', namespace, reserved, hashAlgorithm, hash };
}

function decodeCertificate(data: Uint8Array): UnsignedCertificate {
  const reader = new Reader(data);
  const type = reader.text('certificate type');
  const known = keyShape(type);
  if (known === undefined || !known.certificate) throw new WireError('unknown-type', 'certificate type');
  reader.string('nonce');
  readFields(reader, known.shape.publicFields);
  const { criticalOptions, extensions, ...body } = readCertificateBody(reader);
  reader.end('certificate');
  const namesOf = (options: readonly CertificateOption[]): string[] => options.map(({ name }) => name);
  return {
    ...body,
    kind: 'certificate',
    type,
    criticalOptions: namesOf(criticalOptions),
    extensions: namesOf(extensions),
  };
}

/** The module puts its own record where a login has the session identifier. */
function decodeSudo(record: Uint8Array, reader: Reader): Sudo {
  const claimed = new Reader(record);
  demand(claimed.u32('version') === SUDO_VERSION, 'version');
  claimed.string('cookie');
  const user = claimed.text('user');
  const ruser = claimed.text('ruser');
  const service = claimed.text('service');
  const cwd = claimed.text('cwd');
  const argv = decodeCommand(claimed.child('command'));
  const hostname = claimed.text('hostname');
  const time = claimed.u64('time');
  claimed.end('record');

  demand(reader.text('user') === ruser, 'user');
  demand(reader.text('service') === 'pam_ssh_agent_auth', 'service');
  demand(reader.text('method') === PUBLICKEY, 'method');
  const { algorithm, keyBlob } = decodeKey(reader);
  reader.end('sudo');
  return { kind: 'sudo', user, ruser, service, cwd, argv, hostname, time, algorithm, keyBlob };
}

function decodeCommand(reader: Reader): string[] {
  if (reader.remaining === 0) return [];
  const count = reader.u32('number of words');
  demand(count <= MAX_COMMAND_WORDS, 'number of words');
  const argv: string[] = [];
  while (argv.length < count) argv.push(reader.text('word'));
  reader.end('command');
  return argv;
}
