/** What the system's ssh-add and ours ask of an agent, byte for byte. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { env, folder, makeFiles, read, removeFolder } from './ssh-add-files.ts';
import { buildSshAdd, REFERENCE, run, startRecorder } from './ssh-add-programs.ts';
import { failed } from './ssh-add-situations.ts';

let ours: readonly string[] = [];

beforeAll(async () => {
  makeFiles();
  ours = await buildSshAdd(join(folder, 'bundle'));
});

afterAll(removeFolder);

describe('what the agent is asked', () => {
  const requestsOf = async (program: readonly string[], args: readonly string[], input: string): Promise<string[]> => {
    const socket = join(folder, 'recorder');
    const recorder = await startRecorder(socket);
    try {
      await run([...program, ...args], { cwd: folder, env: { ...env, SSH_AUTH_SOCK: socket }, input });
    } finally {
      recorder.stop();
    }
    return recorder.requests;
  };

  it.each([
    [['id', 'ec256', 'ec384', 'ec521', 'rsa', 'pem'], ''],
    [['cid', 'cec256', 'cec384', 'cec521', 'crsa'], ''],
    [['-c', '-t', '90', 'cid', 'rsa'], ''],
    [['-h', 'one.example', '-h', 'one.example>alice@two.example', '-H', 'known_hosts', 'id'], ''],
    [['-h', '[port.example]:2222', '-H', 'known_hosts', '-ct5', 'id'], ''],
    [['-d', 'cid', 'rsa'], ''],
    [['-D'], ''],
    [['-x'], 'pw\npw\n'],
    [['-X'], 'pw\n'],
    [['-s', '/lib.so'], 'pin\n'],
    [['-ct', '90', '-h', 'one.example', '-H', 'known_hosts', '-s', '/lib.so'], '\n'],
    [['-e', '/lib.so'], ''],
    [['enc'], 'secret\n'],
  ])('is byte for byte the same for %j', async (args, input) => {
    const reference = await requestsOf(REFERENCE, args, input);
    expect(reference.length).toBeGreaterThan(0);
    expect(await requestsOf(ours, args, input)).toEqual(reference);
  });

  it('has the certificates for a token, as 9.6 and later send them', async () => {
    const certificate = Buffer.from(read('cid-cert.pub').split(' ')[1] ?? '', 'base64');
    const string = (bytes: Uint8Array | string): Buffer => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(Buffer.from(bytes).length);
      return Buffer.concat([length, Buffer.from(bytes)]);
    };
    const expected = Buffer.concat([
      Buffer.from([26]),
      string('/lib.so'),
      string('pin'),
      Buffer.from([255]),
      string('associated-certs-v00@openssh.com'),
      Buffer.from([1]),
      string(string(certificate)),
    ]);
    expect(await requestsOf(ours, ['-C', '-s', '/lib.so', 'cid-cert.pub'], 'pin\n')).toEqual([
      expected.toString('hex'),
    ]);
  });

  it('is said to be malformed where the agent answers nonsense', async () => {
    const socket = join(folder, 'recorder');
    const recorder = await startRecorder(socket);
    const outcome = await run([...ours, '-l'], { cwd: folder, env: { ...env, SSH_AUTH_SOCK: socket } });
    recorder.stop();
    expect(outcome).toEqual(failed('error fetching identities: invalid format\n'));
  });
});
