/**
 * Where our agent answers differently from OpenSSH's, as the suite sees it (Debian's ssh-agent 9.2). Each is asserted on
 * both sides with `where`, and differences.test.ts sees to it that none is listed that no test asserts.
 *
 * `since`: the OpenSSH release that does as we do; where there is none, we differ from the newest as well.
 */
export interface Difference {
  readonly openssh: string;
  readonly ours: string;
  readonly reason: string;
  readonly since?: string;
}

const table = {
  'trailing-bytes': {
    openssh: 'ignores bytes after the last field of some requests',
    ours: 'refuses the request',
    reason: 'a request that says more than we read is one that we did not understand (decision 0004)',
  },
  'comment-not-utf8': {
    openssh: 'keeps the bytes of a comment as they are',
    ours: 'keeps text, with U+FFFD for what is not UTF-8',
    reason: 'comments are for people to read; no client finds a key by them',
  },
  'question-visible': {
    openssh: "puts a comment's control characters into the question",
    ours: 'shows them as \\xNN',
    reason: 'who sends a comment must not be able to write the question anew',
  },
  'served-during-question': {
    openssh: 'serves nobody while a question waits',
    ours: 'serves all others',
    reason: 'no slow prompt blocks another client (tenet 6)',
  },
  'unlock-delay': {
    openssh: 'serves nobody while it delays the answer to a wrong guess',
    ours: 'delays the next guess of that guesser alone',
    reason: 'one process must not be able to stop the agent for all',
  },
  'malformed-lock': {
    openssh: 'ends, and loses every key',
    ours: 'answers with a failure',
    reason: 'every client, also one behind a forwarded connection, could end the agent',
  },
  'phrase-ends-in-nul': {
    openssh: 'takes a NUL at the end of a pass phrase for a part of it',
    ours: 'drops it, as OpenSSH does in its other strings',
    reason: 'a client that counts the NUL of a C string would lock out all that do not',
  },
  'empty-destinations': {
    openssh: 'takes an empty list of destinations, and holds the key without any bound',
    ours: 'refuses the key',
    reason: 'a constraint that cannot be enforced is refused, never dropped (tenet 2)',
  },
  'mismatched-halves': {
    openssh: 'takes a private key that does not fit its public half',
    ours: 'refuses it',
    reason: 'the owner learns it when the key is added, not at a server that refuses the signature',
  },
  'bind-empty-session': {
    openssh: 'takes a binding to a session without an identifier',
    ours: 'refuses it',
    reason: 'no key exchange makes one, and a signature over nothing proves nothing',
  },
  'security-keys': {
    openssh: 'takes a key on hardware without a provider, and never signs with it',
    ours: 'refuses keys on hardware',
    reason: 'not served yet: refused rather than half accepted',
  },
  dsa: {
    openssh: 'takes DSA keys',
    ours: 'refuses them',
    reason: 'DSA of 1024 bits with SHA-1 is broken, and servers no longer take it',
    since: '10.1',
  },
  mldsa: {
    openssh: 'does not know the composite of ML-DSA-44 and Ed25519',
    ours: 'serves it',
    reason: 'OpenSSH 10.4 and later are our reference',
    since: '10.4',
  },
  query: {
    openssh: 'does not know the extension `query`',
    ours: 'answers with what it serves',
    reason: 'RFC 9987 section 3.8.1',
    since: '10.3',
  },
  'bind-refused': {
    openssh: 'answers a binding that it refuses with FAILURE',
    ours: 'answers with EXTENSION_FAILURE',
    reason: 'RFC 9987 section 3.8: FAILURE means that the extension is not known',
    since: '10.3 at the latest',
  },
  'bind-attempted': {
    openssh: 'takes a connection whose binding failed for a local one',
    ours: 'shows no key there that is bound to a destination',
    reason: 'a connection whose binding failed must not pass for a local one',
    since: '10.5 at the latest',
  },
  'bind-while-locked': {
    openssh: 'refuses session bindings while it is locked',
    ours: 'takes them',
    reason: 'CVE-2026-73281: such a connection passed for a local one after unlocking',
    since: '10.5',
  },
  'session-id-length': {
    openssh: 'takes a session identifier of more than 128 bytes',
    ours: 'refuses it',
    reason: 'what a client makes the agent keep is bounded',
    since: '10.5 at the latest',
  },
} as const satisfies Readonly<Record<string, Difference>>;

export type DifferenceName = keyof typeof table;

export const differences: Readonly<Record<DifferenceName, Difference>> = table;
