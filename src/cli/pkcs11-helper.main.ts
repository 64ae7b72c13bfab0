/**
 * The helper process of one PKCS#11 provider: framed requests on standard input, answers on standard output, until the
 * agent closes the pipe or ends. It blocks on purpose: reads go into one buffer, which is wiped after each request.
 */
import { readSync, writeSync } from 'node:fs';
import { Pkcs11Helper } from '../backends/pkcs11helper.ts';
import { MAX_REQUEST_BYTES } from '../backends/pkcs11protocol.ts';
import { missingExport } from '../backends/providerfile.ts';
import { denyCoreFiles, denyTracing } from '../native/libc.ts';
import { CryptokiLibrary, dieWithParent, takeStandardOutput } from '../native/pkcs11.ts';
import { encodeFrame, frameLength, LENGTH_BYTES } from '../wire/frame.ts';

// As in ssh-agent.main.ts: without a listener, Node opens its debugger on SIGUSR1.
process.on('SIGUSR1', () => {});
denyTracing();
denyCoreFiles();
dieWithParent();
process.umask(0o077);

const STDIN = 0;
const output = takeStandardOutput();
const buffer = new Uint8Array(LENGTH_BYTES + MAX_REQUEST_BYTES);

/** Fills `buffer` from `at` to `end`. @returns false where the agent closed the pipe */
function fill(at: number, end: number): boolean {
  let to = at;
  while (to < end) {
    const got = readSync(STDIN, buffer, to, end - to, null);
    if (got === 0) return false;
    to += got;
  }
  return true;
}

function send(answer: Uint8Array): void {
  const frame = encodeFrame(answer);
  let at = 0;
  while (at < frame.length) at += writeSync(output, frame, at);
}

const helper = new Pkcs11Helper({
  refuse: (path) => missingExport(path, 'C_GetFunctionList'),
  load: (path) => new CryptokiLibrary(path),
});

while (fill(0, LENGTH_BYTES)) {
  const length = frameLength(buffer) ?? 0;
  if (length === 0 || length > MAX_REQUEST_BYTES || !fill(LENGTH_BYTES, LENGTH_BYTES + length)) break;
  const message = buffer.subarray(LENGTH_BYTES, LENGTH_BYTES + length);
  try {
    send(helper.handle(message));
  } finally {
    buffer.fill(0, 0, LENGTH_BYTES + length);
  }
}
helper.end();
process.exit(0);
