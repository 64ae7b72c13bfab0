/**
 * A request that nobody made, as facts to be decided on: keys, host keys and sessions are made up from the names given, and
 * each host is supposed to be known by its one name.
 */
import { createHash } from 'node:crypto';
import { fingerprint, type PublicKey, parsePublicKey } from '../keys/publickey.ts';
import type { Signer } from '../keys/signer.ts';
import type { Binding, Bindings } from '../policy/bindings.ts';
import type { Facts, Host, Peer, Purpose } from '../policy/facts.ts';
import { PUBLICKEY_HOSTBOUND, type SignedData } from '../wire/signeddata.ts';
import { Writer } from '../wire/writer.ts';

export interface Supposed {
  /** Undefined: one made up from the comment. */
  readonly key: PublicKey | undefined;
  readonly comment: string;
  readonly confirm: boolean;
  readonly purpose: Purpose;
  readonly user: string;
  /** The host of a login. */
  readonly host: string | undefined;
  /** The hosts that it is forwarded by, nearest first. */
  readonly via: readonly string[];
  /** Whether it may come from another machine even where `via` is empty: nobody knows by which way. */
  readonly forwarded: boolean;
  readonly namespace: string;
  /** The peer's program and its ancestors', nearest first. */
  readonly programs: readonly string[];
}

const NO_BYTES = new Uint8Array();

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(createHash('sha256').update(text).digest());
}

/** An Ed25519 key whose private half nobody has. */
export function supposedKey(name: string): PublicKey {
  return parsePublicKey(
    new Writer()
      .text('ssh-ed25519')
      .string(bytesOf(`supposed ${name}`))
      .finish(),
  );
}

function supposedHost(name: string, forwarded: boolean): Host {
  const hostKey = supposedKey(`host ${name}`);
  const sessionId = bytesOf(`session ${forwarded} ${name}`);
  const binding: Binding = { hostKey, hostKeyBlob: hostKey.blob, sessionId, forwarded };
  return { binding, fingerprint: fingerprint(hostKey), names: [name], hidden: 0 };
}

function signedOf({ purpose, user, host, namespace }: Supposed, keyBlob: Uint8Array): SignedData {
  const algorithm = 'ssh-ed25519';
  switch (purpose) {
    case 'login':
    case 'blind-login': {
      const { binding } = supposedHost(host ?? '', false);
      const sessionId = purpose === 'login' ? binding.sessionId : bytesOf('another session');
      const ssh = { service: 'ssh-connection', method: PUBLICKEY_HOSTBOUND, algorithm } as const;
      return { kind: 'login', sessionId, user, ...ssh, keyBlob, hostKey: binding.hostKeyBlob };
    }
    case 'sshsig':
      return { kind: 'sshsig', namespace, reserved: NO_BYTES, hashAlgorithm: 'sha512', hash: NO_BYTES };
    case 'sudo': {
      const asked = { ruser: user, service: 'sudo', cwd: '/', argv: ['true'], hostname: '', time: 0n };
      return { kind: 'sudo', user: 'root', ...asked, algorithm, keyBlob };
    }
    case 'certificate': {
      const names = { principals: [user], criticalOptions: [], extensions: [] };
      const rest = { serial: 0n, keyId: '', validAfter: 0n, validBefore: 0n, authority: keyBlob };
      return { kind: 'certificate', type: algorithm, certificateKind: 'user', ...rest, ...names };
    }
    case 'webauthn':
      return { kind: 'webauthn', type: 'webauthn.get', origin: '', challenge: '' };
    case 'unidentified':
      return { kind: 'unidentified' };
    default:
      return purpose satisfies never;
  }
}

function peerOf(programs: readonly string[]): Peer {
  const processes = programs.map((program, i) => ({
    ...{ pid: i + 1, startTime: undefined, program, group: undefined, session: undefined },
    ...{ hasTerminal: true, folder: undefined, isInOurNamespace: true, claimedArguments: [] },
  }));
  return { uid: process.getuid?.() ?? 0, pid: undefined, processes: () => processes };
}

function signerOf(publicKey: PublicKey): Signer {
  return { publicKey, sign: () => NO_BYTES, rest: () => {}, dispose: () => {} };
}

export function supposedFacts(supposed: Supposed): Facts {
  const { purpose, host, via, comment, confirm } = supposed;
  const publicKey = supposed.key ?? supposedKey(`key ${comment}`);
  const hosts = via.map((name) => supposedHost(name, true));
  if (purpose === 'login') hosts.push(supposedHost(host ?? '', false));
  const bindings: Bindings = { attempted: hosts.length > 0, failed: false, list: hosts.map(({ binding }) => binding) };
  return Object.freeze({
    entry: Object.freeze({
      ...{ signer: signerOf(publicKey), comment, confirm },
      ...{ expiresAt: undefined, provider: undefined, destinations: undefined },
    }),
    signed: signedOf(supposed, publicKey.blob),
    peer: peerOf(supposed.programs),
    guard: undefined,
    bindings,
    hosts,
    relay: supposed.forwarded && via.length === 0 ? 'by a way that nobody knows' : undefined,
    forwarded: supposed.forwarded || via.length > 0,
    nowSeconds: Math.floor(Date.now() / 1000),
  });
}
