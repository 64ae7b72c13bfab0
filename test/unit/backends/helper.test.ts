import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, describe, expect, it } from 'vitest';
import { callHelper, type HelperCall, HelperError, MAX_COMPLAINT_BYTES } from '../../../src/backends/helper.ts';
import { children, isRunning } from '../../support/securitykey.ts';
import { raw } from '../wire/build.ts';

const folder = mkdtempSync(join(tmpdir(), 'latchkey-helper-'));
const env = { PATH: '/usr/bin:/bin', FOLDER: folder };

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const LONG = 50_000;

/** A call of a helper that is a shell script. */
const shell = (script: string, more: Partial<HelperCall> = {}): HelperCall => ({
  program: '/bin/sh',
  args: ['-c', script],
  env,
  request: [raw('question')],
  maxReplyBytes: 1000,
  milliseconds: LONG,
  ...more,
});

async function failure(call: HelperCall): Promise<HelperError> {
  try {
    await callHelper(call);
  } catch (error) {
    if (error instanceof HelperError) return error;
    throw error;
  }
  throw new Error('it answered');
}

async function gone(pid: number): Promise<void> {
  while (isRunning(pid)) await new Promise((resolve) => setTimeout(resolve, 5));
}

describe('a helper', () => {
  it('is given the request with its length, and what it answers comes back without', async () => {
    const request = [raw('one '), raw(), raw('two')];
    const { message } = await callHelper(shell('exec cat', { request }));
    expect(Buffer.from(message).toString()).toBe('one two');
    const dump = await callHelper(shell('head -c 11 | od -An -v -tx1 >&2; printf "\\0\\0\\0\\0"', { request }));
    expect(dump.complaint.replace(/\s+/g, ' ').trim()).toBe('00 00 00 07 6f 6e 65 20 74 77 6f');
    expect(dump.message).toEqual(raw());
  });

  it('may have long requests and answers, in whatever pieces they come', async () => {
    const big = new Uint8Array(256 * 1024).map((_, i) => i % 251);
    const call = { request: [big.subarray(0, 100), big.subarray(100)], maxReplyBytes: big.length };
    expect(Buffer.compare((await callHelper(shell('exec cat', call))).message, big)).toBe(0);
    const slow = 'printf "\\0\\0"; sleep 0.02; printf "\\0\\3a"; sleep 0.02; printf b; sleep 0.02; printf c';
    expect(Buffer.from((await callHelper(shell(slow))).message).toString()).toBe('abc');
  });

  it('has the environment that is given, no more, and is found in PATH', async () => {
    const { complaint } = await callHelper(shell('env >&2; exec cat', { program: 'sh' }));
    expect(complaint).toContain(`FOLDER=${folder}\n`);
    expect(complaint).not.toContain('VITEST');
  });

  it('counts as having answered when the answer is whole, however it ends', async () => {
    for (const end of ['exit 3', 'kill -9 $$', 'exec 1>&-; exit 0'])
      expect(Buffer.from((await callHelper(shell(`printf "\\0\\0\\0\\2ok"; ${end}`))).message).toString()).toBe('ok');
  });

  it.each([
    ['exits at once', 'exit 3', 'ended', 'it ended with 3 and no answer'],
    ['is killed', 'kill -9 $$', 'ended', 'it was ended by SIGKILL before it answered'],
    ['stops halfway', 'printf "\\0\\0\\0\\5ab"', 'ended', 'it ended with 0 and no answer'],
    ['answers words', 'echo usage: none', 'bad-reply', 'its answer would have 1970495847 bytes, and 1000 are the most'],
    ['never stops answering', 'exec cat /dev/zero', 'bad-reply', 'there are bytes after its answer'],
    ['says more than its answer', 'printf "\\0\\0\\0\\2okay"', 'bad-reply', 'there are bytes after its answer'],
  ])('that %s is a clear error, and the process is gone', async (_, script, code, message) => {
    const error = await failure(shell(script));
    expect([error.code, error.message]).toEqual([code, message]);
    expect(children()).toEqual([]);
  });

  it.each([['/missing/helper'], [folder], [join(folder, 'plain')]])(
    'that cannot run is an error: %s',
    async (program) => {
      writeFileSync(join(folder, 'plain'), 'no program', { mode: 0o600 });
      const error = await failure(shell('', { program }));
      expect(error.code).toBe('not-started');
      expect(children()).toEqual([]);
    },
  );

  it('that closes its output and stays is ended', async () => {
    const error = await failure(shell('exec 1>&-; sleep 100'));
    expect([error.code, error.message]).toEqual(['ended', 'it closed its output and said nothing']);
    expect(children()).toEqual([]);
  });

  it('that hangs is ended when its time is over, deaf to SIGTERM or not', async () => {
    const error = await failure(shell('trap "" TERM HUP INT; sleep 100 & wait', { milliseconds: 100 }));
    expect([error.code, error.message]).toEqual(['late', 'no answer within 0.1 s']);
    expect(children()).toEqual([]);
  });

  it('is ended when the request is withdrawn, and not started when it was withdrawn before', async () => {
    const controller = new AbortController();
    const waiting = failure(shell('echo started > $FOLDER/started; sleep 100', { signal: controller.signal }));
    setTimeout(() => controller.abort(), 50);
    expect((await waiting).code).toBe('withdrawn');
    expect(children()).toEqual([]);
    rmSync(join(folder, 'started'), { force: true });
    const again = shell('echo started > $FOLDER/started', { signal: controller.signal });
    expect((await failure(again)).code).toBe('withdrawn');
    expect(() => readFileSync(join(folder, 'started'))).toThrow();
  });

  it('takes whom it started with it', async () => {
    for (const end of ['exit 0', 'exec cat', 'sleep 100']) {
      const script = `sleep 1000 & echo $! > $FOLDER/pid; ${end}`;
      await callHelper(shell(script, { milliseconds: 300 })).catch(() => {});
      await gone(Number(readFileSync(join(folder, 'pid'), 'utf8')));
    }
    expect(children()).toEqual([]);
  });

  it('may complain without end: what is kept is bounded, and its answer counts', async () => {
    const { complaint, message } = await callHelper(
      shell('trap "" PIPE; head -c 1000000 /dev/zero | tr "\\0" x >&2; exec cat'),
    );
    expect(complaint.length).toBeLessThanOrEqual(MAX_COMPLAINT_BYTES);
    expect(complaint.length).toBeGreaterThan(1000);
    expect(Buffer.from(message).toString()).toBe('question');
  });

  it('tells its last words with its failure', async () => {
    expect((await failure(shell('echo "no such device" >&2; exit 1'))).complaint).toBe('no such device\n');
  });

  it('ends with us', async () => {
    const call = shell('echo $$ > $FOLDER/h; mv $FOLDER/h $FOLDER/helper; exec sleep 1000', { request: [] });
    const script = `
      import { callHelper } from './src/backends/helper.ts';
      import { existsSync } from 'node:fs';
      callHelper(${JSON.stringify(call)}).catch(() => {});
      setInterval(() => existsSync(${JSON.stringify(join(folder, 'helper'))}) && process.exit(7), 5);`;
    const root = join(import.meta.dirname, '../../..');
    const outfile = join(folder, 'short.mjs');
    const stdin = { contents: script, resolveDir: root, loader: 'ts' as const };
    await build({ stdin, bundle: true, platform: 'node', format: 'esm', outfile, logLevel: 'error' });
    expect(spawnSync(process.execPath, [outfile]).status).toBe(7);
    await gone(Number(readFileSync(join(folder, 'helper'), 'utf8')));
  });
});
