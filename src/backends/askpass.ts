/**
 * Questions to a person through an askpass program, by the rules of OpenSSH's readpass.c: which program, when it may be
 * used (DISPLAY, WAYLAND_DISPLAY, SSH_ASKPASS_REQUIRE), SSH_ASKPASS_PROMPT, and what its answer means.
 * Reading from a terminal is the command line's (cli/passphrase.ts).
 */
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { type Environment, endProgram, startProgram } from './program.ts';

/** OpenSSH reads the answer into 1024 bytes, the last of them a NUL. */
export const MAX_ANSWER_BYTES = 1023;
/** OpenSSH's buffer for the text of a confirmation, without its NUL. */
export const MAX_PROMPT_BYTES = 1023;

/** Where systems keep it: Debian, Fedora, Arch and SUSE, BSD and Homebrew, OpenSSH's own default. */
const programs = [
  '/usr/bin/ssh-askpass',
  '/usr/libexec/openssh/ssh-askpass',
  '/usr/lib/ssh/ssh-askpass',
  '/usr/local/bin/ssh-askpass',
  '/usr/X11R6/bin/ssh-askpass',
];

/** From here on, a shell or a signal ended the program (126: not to be run, 127: not found, 128 and more: a signal). */
const SHELL_FAILURE = 126;

const LF = 10;
const CR = 13;

/** `always` is what somebody demanded, `instead` what may stand in for a missing terminal. */
export type AskpassUse = 'always' | 'instead' | 'never';

/** What the environment says about using an askpass program. */
export function askpassUse(env: Environment): AskpassUse {
  const displayed = (env.DISPLAY ?? '') !== '' || (env.WAYLAND_DISPLAY ?? '') !== '';
  switch (env.SSH_ASKPASS_REQUIRE?.toLowerCase()) {
    case 'force':
      return 'always';
    case 'prefer':
      return displayed ? 'always' : 'never';
    case 'never':
      return 'never';
    default:
      return displayed ? 'instead' : 'never';
  }
}

/** The program that would be asked; it need not exist. */
export function askpassProgram(env: Environment): string {
  return env.SSH_ASKPASS ?? systemAskpass() ?? (programs[0] as string);
}

/** The one that this system has, where it has one. */
export function systemAskpass(): string | undefined {
  return programs.find((path) => existsSync(path));
}

/** `prompt` cut to what an argument may hold: no NUL, and not in the middle of a character. */
function bounded(prompt: string): string {
  const bytes = new TextEncoder().encode(prompt.replaceAll('\0', '\\x00'));
  if (bytes.length <= MAX_PROMPT_BYTES) return new TextDecoder().decode(bytes);
  let end = MAX_PROMPT_BYTES;
  while (((bytes[end] as number) & 0xc0) === 0x80) end--;
  return new TextDecoder().decode(bytes.subarray(0, end));
}

/** What became of a program: the first line of its answer, its failure, or that it showed nothing to anybody. */
type Outcome =
  | { readonly kind: 'answered'; readonly line: Uint8Array }
  | { readonly kind: 'failed'; readonly code: number }
  | { readonly kind: 'nobody'; readonly why: string };

const withdrawn: Outcome = { kind: 'nobody', why: 'withdrawn' };

async function ask(
  prompt: string,
  env: Environment,
  hint: 'confirm' | 'none' | undefined,
  signal: AbortSignal | undefined,
): Promise<Outcome> {
  if (signal?.aborted) return withdrawn;
  const program = askpassProgram(env);
  const answer = new Uint8Array(MAX_ANSWER_BYTES);
  const notStarted = (reason: string): Outcome => ({ kind: 'nobody', why: `exec(${program}): ${reason}` });
  let child: ChildProcess;
  try {
    const childEnv = hint === undefined ? env : { ...env, SSH_ASKPASS_PROMPT: hint };
    child = startProgram(program, [bounded(prompt)], { env: childEnv, stdio: ['inherit', 'pipe', 'inherit'] });
  } catch {
    return notStarted('No such file or directory');
  }
  const stop = (): void => endProgram(child);
  signal?.addEventListener('abort', stop, { once: true });
  try {
    let length = 0;
    child.stdout?.on('data', (chunk: Buffer) => {
      const part = chunk.subarray(0, MAX_ANSWER_BYTES - length);
      answer.set(part, length);
      length += part.length;
      chunk.fill(0);
      if (length === MAX_ANSWER_BYTES) child.stdout?.destroy();
    });
    const ended = await new Promise<number | Error | string>((resolve) => {
      child.on('error', resolve);
      child.on('close', (code, by) => resolve(code ?? `ended by ${by}`));
    });
    if (ended instanceof Error) {
      const { code } = ended as NodeJS.ErrnoException;
      return notStarted(code === 'EACCES' ? 'Permission denied' : 'No such file or directory');
    }
    if (signal?.aborted) return withdrawn;
    if (typeof ended === 'string') return { kind: 'nobody', why: `${program}: ${ended}` };
    if (ended !== 0) return { kind: 'failed', code: ended };
    const line = answer.subarray(0, length);
    const end = line.findIndex((byte) => byte === LF || byte === CR || byte === 0);
    // Not slice(): what is small is made in the JavaScript heap, where a collection leaves copies of what it moves.
    const secret = new Uint8Array(new ArrayBuffer(end < 0 ? length : end));
    secret.set(line.subarray(0, secret.length));
    return { kind: 'answered', line: secret };
  } finally {
    signal?.removeEventListener('abort', stop);
    answer.fill(0);
  }
}

/**
 * Asks for consent. Yes is an answer that is empty or `yes` in any case, with success; another answer, or a failure, is no.
 * @param report is told, in one line, why nobody was reached
 * @returns undefined where nobody was reached: no display, no program, one that a signal or its shell ended, an abort
 */
export async function askConfirm(
  prompt: string,
  env: Environment,
  signal?: AbortSignal,
  report: (line: string) => void = () => {},
): Promise<boolean | undefined> {
  if (askpassUse(env) === 'never') {
    report('no DISPLAY, and SSH_ASKPASS_REQUIRE is not force');
    return undefined;
  }
  const outcome = await ask(prompt, env, 'confirm', signal);
  switch (outcome.kind) {
    case 'answered': {
      const word = new TextDecoder().decode(outcome.line).toLowerCase();
      return word === '' || word === 'yes';
    }
    case 'failed':
      if (outcome.code < SHELL_FAILURE) return false;
      report(`${askpassProgram(env)}: exit code ${outcome.code}`);
      return undefined;
    case 'nobody':
      if (outcome !== withdrawn) report(outcome.why);
      return undefined;
    default:
      return outcome satisfies never;
  }
}

/**
 * Asks for a pass phrase or PIN. The caller wipes the answer.
 * @param report is told, in one line, why the program could not be started
 * @returns undefined where no program may be used, it could not be started, or it ended without success
 */
export async function askSecret(
  prompt: string,
  env: Environment,
  signal?: AbortSignal,
  report: (line: string) => void = () => {},
): Promise<Uint8Array | undefined> {
  if (askpassUse(env) === 'never') return undefined;
  const outcome = await ask(prompt, env, undefined, signal);
  if (outcome.kind === 'nobody' && outcome.why.startsWith('exec(')) report(`ssh_askpass: ${outcome.why}`);
  return outcome.kind === 'answered' ? outcome.line : undefined;
}

/**
 * Shows a notice for as long as something waits for the person: on the terminal of an agent in the foreground, else by
 * the askpass program, which is told that no answer is wanted.
 * @returns what ends it
 */
export function showNotice(text: string, env: Environment): () => void {
  if (process.stderr.isTTY) {
    process.stderr.write(`${text}\n`);
    return () => process.stderr.write('User presence confirmed\n');
  }
  const ended = new AbortController();
  if (askpassUse(env) !== 'never') void ask(text, env, 'none', ended.signal);
  return () => ended.abort();
}
