import { afterEach, describe, expect, test } from 'vitest';
import { openProvider } from '../../../src/backends/pkcs11.ts';
import { HelperProcess, type HelperProcessError } from '../../../src/backends/pkcs11process.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const NONE = new Uint8Array();

describe('the helper process', () => {
  const processes: HelperProcess[] = [];
  const start = (script: string, times: { idleMs?: number; endMs?: number } = {}): HelperProcess => {
    const helper = new HelperProcess({
      command: [process.execPath, '-e', script],
      env: {},
      idleMs: 60_000,
      endMs: 300,
      ...times,
      after: (milliseconds, callback) => {
        const timer = setTimeout(callback, milliseconds);
        return () => clearTimeout(timer);
      },
      ended: () => {},
    });
    processes.push(helper);
    return helper;
  };
  afterEach(() => Promise.all(processes.splice(0).map((helper) => helper.close())));

  const ask = async (helper: HelperProcess, milliseconds = 20_000, signal?: AbortSignal): Promise<string> => {
    let got = '';
    const look = (answer: Uint8Array, fresh: boolean): boolean => {
      got = `${Buffer.from(answer).toString()} ${fresh}`;
      return false;
    };
    await helper.request(bytes('question'), milliseconds, look, signal);
    return got;
  };
  const ECHO = `process.stdin.on('data', (d) => process.stdout.write(d))`;

  test('answers one request after the other', async () => {
    const helper = start(ECHO);
    expect(await Promise.all([ask(helper), ask(helper), ask(helper)])).toEqual([
      'question true',
      'question false',
      'question false',
    ]);
  });

  test('is given answers in pieces', async () => {
    const helper = start(`process.stdin.on('data', async (d) => {
      for (const b of d) { process.stdout.write(Buffer.of(b)); await new Promise(setImmediate); } })`);
    expect(await ask(helper)).toBe('question true');
  });

  test('is sent a message that is wiped afterwards', async () => {
    const helper = start(ECHO);
    const message = bytes('1234');
    await helper.request(message, 20_000, () => false);
    expect(message).toEqual(new Uint8Array(4));
    await helper.close();
    const late = bytes('1234');
    await expect(helper.request(late, 20_000, () => false)).rejects.toMatchObject({ code: 'closed' });
    expect(late).toEqual(new Uint8Array(4));
  });

  test.each([
    ['ends', `process.exit(3)`, 'ended with 3'],
    ['is killed', `process.kill(process.pid, 'SIGKILL')`, 'was ended by SIGKILL'],
    [
      'announces too long an answer',
      `process.stdout.write(Buffer.of(0x7f, 0, 0, 0)); setInterval(() => {}, 1e6)`,
      'said what is no answer',
    ],
    [
      'answers twice',
      `process.stdout.write(Buffer.of(0, 0, 0, 1, 1, 9)); setInterval(() => {}, 1e6)`,
      'said what is no answer',
    ],
  ])('that %s fails the request, and another one is started', async (_, script, words) => {
    const helper = start(`process.stdin.once('data', () => { ${script} })`);
    for (let i = 0; i < 2; i++) await expect(ask(helper)).rejects.toThrow(words);
  });

  test('that hangs is killed after its time, and its successor serves who waits', async () => {
    const helper = start(`process.stdin.on('data', () => {})`);
    const first = ask(helper, 400).catch((error: HelperProcessError) => error.code);
    const second = ask(helper, 2000).catch((error: HelperProcessError) => error.code);
    expect(await first).toBe('late');
    expect(await second).toBe('late');
    expect(helper.pid).toBeUndefined();
  });

  test('that cannot be started is told so', async () => {
    const helper = new HelperProcess({
      command: ['/nonexistent/program'],
      env: {},
      idleMs: 1,
      endMs: 1,
      after: () => () => {},
      ended: () => {},
    });
    await expect(ask(helper)).rejects.toMatchObject({ code: 'not-started' });
  });

  test('has no work for a request that was withdrawn before its turn', async () => {
    const helper = start(ECHO);
    const gone = new AbortController();
    gone.abort();
    await expect(ask(helper, 20_000, gone.signal)).rejects.toMatchObject({ code: 'withdrawn' });
    expect(helper.pid).toBeUndefined();
  });

  test('ends when idle, unless it is kept', async () => {
    const helper = start(ECHO, { idleMs: 30 });
    helper.keep = true;
    await ask(helper);
    const { pid } = helper;
    await new Promise((done) => setTimeout(done, 150));
    expect(helper.pid).toBe(pid);
    helper.keep = false;
    await ask(helper);
    for (let i = 0; i < 200 && helper.pid !== undefined; i++) await new Promise((done) => setTimeout(done, 10));
    expect(helper.pid).toBeUndefined();
    expect(await ask(helper)).toBe('question true');
  });

  test('gives nonsense, which is an error in words', async () => {
    const ports = {
      env: {},
      helper: [process.execPath, '-e', ECHO],
      askPin: async () => undefined,
      log: () => {},
    };
    await expect(openProvider('/usr/lib/p.so', NONE, ports)).rejects.toThrow('gave an answer that says nothing');
  });
});
