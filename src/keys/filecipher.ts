/**
 * The ciphers of encrypted OpenSSH key files, decryption only. All but one are OpenSSL's; chacha20-poly1305@openssh.com
 * (OpenSSH's PROTOCOL.chacha20poly1305, with sequence number 0 and no additional data) is OpenSSL's ChaCha20 with our
 * Poly1305, which Node does not give away.
 */
import { createDecipheriv, type DecipherGCM, timingSafeEqual } from 'node:crypto';
import { KeyError } from './error.ts';

export interface FileCipher {
  /** Bytes of key and of IV, in this order, that the key derivation gives. */
  readonly keyBytes: number;
  readonly ivBytes: number;
  /** The ciphertext is a multiple of it. */
  readonly blockBytes: number;
  /** Bytes of the tag that follows the ciphertext. */
  readonly tagBytes: number;
  /** @throws KeyError 'wrong-passphrase' where the tag does not fit. The result is the caller's to wipe. */
  decrypt(secret: Uint8Array, ciphertext: Uint8Array, tag: Uint8Array): Uint8Array;
}

function wrongPassphrase(): KeyError {
  return new KeyError('wrong-passphrase', 'wrong passphrase, or the file is damaged');
}

/** Node's Buffer as the plain view that the rest of the floor knows. */
function view(buffer: Uint8Array): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length);
}

function openssl(name: string, keyBytes: number, ivBytes: number, blockBytes: number, tagBytes = 0): FileCipher {
  return {
    keyBytes,
    ivBytes,
    blockBytes,
    tagBytes,
    decrypt(secret, ciphertext, tag) {
      const decipher = createDecipheriv(name, secret.subarray(0, keyBytes), secret.subarray(keyBytes));
      decipher.setAutoPadding(false);
      if (tagBytes > 0) (decipher as DecipherGCM).setAuthTag(tag);
      const plain = view(decipher.update(ciphertext));
      try {
        decipher.final();
        return plain;
      } catch {
        plain.fill(0);
        throw wrongPassphrase();
      }
    },
  };
}

const PRIME_1305 = (1n << 130n) - 5n;

function littleEndian(bytes: Uint8Array): bigint {
  let number = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) number = (number << 8n) | BigInt(bytes[i] as number);
  return number;
}

/** Poly1305 (RFC 8439 section 2.5). Its key serves this one message: what BigInt leaves in the heap opens nothing. */
function poly1305(key: Uint8Array, message: Uint8Array): Uint8Array {
  const r = littleEndian(key.subarray(0, 16)) & 0x0ffffffc0ffffffc0ffffffc0fffffffn;
  let sum = 0n;
  for (let at = 0; at < message.length; at += 16) {
    const block = message.subarray(at, at + 16);
    sum = ((sum + littleEndian(block) + (1n << BigInt(8 * block.length))) * r) % PRIME_1305;
  }
  sum += littleEndian(key.subarray(16, 32));
  return Uint8Array.from({ length: 16 }, (_, i) => Number((sum >> BigInt(8 * i)) & 255n));
}

/** ChaCha20 with a nonce of zeros, from block `counter` of its key stream on. */
function chacha20(key: Uint8Array, counter: number, input: Uint8Array): Uint8Array {
  const iv = new Uint8Array(16);
  iv[0] = counter;
  return view(createDecipheriv('chacha20', key, iv).update(input));
}

const chachaPoly: FileCipher = {
  // The second half keys the length field of packets, which a file does not have.
  keyBytes: 64,
  ivBytes: 0,
  blockBytes: 8,
  tagBytes: 16,
  decrypt(secret, ciphertext, tag) {
    const key = secret.subarray(0, 32);
    const tagKey = chacha20(key, 0, new Uint8Array(32));
    const fits = timingSafeEqual(poly1305(tagKey, ciphertext), tag);
    tagKey.fill(0);
    if (!fits) throw wrongPassphrase();
    return chacha20(key, 1, ciphertext);
  },
};

const ciphers: ReadonlyMap<string, FileCipher> = new Map([
  ['3des-cbc', openssl('des-ede3-cbc', 24, 8, 8)],
  ['aes128-cbc', openssl('aes-128-cbc', 16, 16, 16)],
  ['aes192-cbc', openssl('aes-192-cbc', 24, 16, 16)],
  ['aes256-cbc', openssl('aes-256-cbc', 32, 16, 16)],
  ['aes128-ctr', openssl('aes-128-ctr', 16, 16, 16)],
  ['aes192-ctr', openssl('aes-192-ctr', 24, 16, 16)],
  ['aes256-ctr', openssl('aes-256-ctr', 32, 16, 16)],
  ['aes128-gcm@openssh.com', openssl('aes-128-gcm', 16, 12, 16, 16)],
  ['aes256-gcm@openssh.com', openssl('aes-256-gcm', 32, 12, 16, 16)],
  ['chacha20-poly1305@openssh.com', chachaPoly],
]);

/** The cipher with this name of OpenSSH's, or undefined where we have none. 'none' is none. */
export function fileCipher(name: string): FileCipher | undefined {
  return ciphers.get(name);
}
