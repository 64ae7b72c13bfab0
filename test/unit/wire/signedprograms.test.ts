/** What real programs of this machine ask an agent to sign. */
import { createHash } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decodeRequest } from '../../../src/wire/requests.ts';
import { classify, type SignedData } from '../../../src/wire/signeddata.ts';
import { type Bench, openBench } from './openssh.ts';

describe('what is signed by', () => {
  let bench: Bench;

  beforeAll(async () => {
    bench = await openBench();
    await bench.keygen('key', '-t', 'ed25519');
    await bench.run('ssh-add', '-q', bench.path('key'));
    bench.proxy.take();
  });
  afterAll(() => bench.close());

  /** The data of the requests to sign that came since the last time. */
  const asked = (): readonly Uint8Array[] =>
    bench.proxy.take().flatMap(({ direction, frame }) => {
      if (direction !== 'request') return [];
      const request = decodeRequest(new Uint8Array(frame.subarray(4)));
      return request.kind === 'sign' ? [request.data] : [];
    });
  const signedOnce = (): SignedData => {
    const [data, more] = asked();
    if (data === undefined || more !== undefined) throw new Error('not one signature');
    return classify(data);
  };

  it.each(['git', 'file', 'email', 'deploy@example.com'])('ssh-keygen -Y sign in namespace %s', async (namespace) => {
    writeFileSync(bench.path('message'), 'a message\n');
    await bench.run(
      'ssh-keygen',
      '-q',
      '-Y',
      'sign',
      '-n',
      namespace,
      '-f',
      bench.path('key.pub'),
      bench.path('message'),
    );
    rmSync(bench.path('message.sig'));
    expect(signedOnce()).toMatchObject({
      kind: 'sshsig',
      namespace,
      hash: new Uint8Array(createHash('sha512').update('a message\n').digest()),
    });
  });

  it('git commit -S and git tag -s', async () => {
    const repository = bench.path('repository');
    const settings = [
      `user.signingkey=${bench.path('key.pub')}`,
      'gpg.format=ssh',
      'user.name=A',
      'user.email=a@example.com',
    ];
    const git = (...args: readonly string[]): Promise<string> =>
      bench.run('git', '-C', repository, ...settings.flatMap((one) => ['-c', one]), ...args);
    await bench.run('git', 'init', '-q', repository);
    await git('commit', '-q', '-S', '--allow-empty', '-m', 'First');
    expect(signedOnce()).toMatchObject({ kind: 'sshsig', namespace: 'git' });
    await git('tag', '-s', '-m', 'First', 'v1');
    expect(signedOnce()).toMatchObject({ kind: 'sshsig', namespace: 'git' });
  });

  it('ssh-keygen -s for a user, with options and an end', async () => {
    await bench.keygen('user', '-t', 'ecdsa');
    await bench.run(
      'ssh-keygen',
      ...[
        '-q',
        '-U',
        '-s',
        bench.path('key.pub'),
        '-I',
        'carl',
        '-n',
        'carl,root',
        '-z',
        '42',
        '-V',
        '20270101Z:20270102Z',
      ],
      ...['-O', 'force-command=/bin/true', '-O', 'no-pty', bench.path('user.pub')],
    );
    const signed = signedOnce();
    expect(signed).toMatchObject({
      kind: 'certificate',
      type: 'ecdsa-sha2-nistp256-cert-v01@openssh.com',
      certificateKind: 'user',
      keyId: 'carl',
      serial: 42n,
      principals: ['carl', 'root'],
      validBefore: BigInt(Date.UTC(2027, 0, 2) / 1000),
      criticalOptions: ['force-command'],
    });
    expect(signed).toHaveProperty('extensions', expect.not.arrayContaining(['permit-pty']));
  });
});
