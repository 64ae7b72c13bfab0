// OpenSSH's own client and server: log-ins with every type of key and certificate that only our agent holds, and all
// that ssh, scp, sftp, rsync, ssh-keygen and sshd do with an agent.
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { keygen, type Sshd, user, writeClientConfig } from '../support/sshd.ts';
import { MESSAGE, recordAgent } from './fixtures/record.ts';
import { type Agent, type Kind, kinds, type Run, type RunOptions, Setting, type TestKey } from './fixtures/setting.ts';

const setting = new Setting();
const WHERE = 'echo "$LATCHKEY_HOST"';
let agent: Agent;
/** Lets in the plain keys. */
let plain: Sshd;
/** Lets in certificates only. */
let certified: Sshd;
let config: string;
const keys = {} as Record<Kind, TestKey>;
const all = (): TestKey[] => kinds.map((kind) => keys[kind]);

const ssh = (args: readonly string[], options: RunOptions = {}): Promise<Run> =>
  setting.run('/usr/bin/ssh', ['-F', config, ...args], {
    ...options,
    env: { SSH_AUTH_SOCK: agent.path, ...options.env },
  });

async function expectLogin(server: Sshd, args: readonly string[] = [], options: RunOptions = {}): Promise<string> {
  const { status, stdout, stderr } = await ssh([...args, server.name, WHERE], options);
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: `${server.word}\n`, stderr: '' });
  return server.accepted().at(-1) ?? '';
}

async function expectRefusal(server: Sshd, args: readonly string[] = [], options: RunOptions = {}): Promise<string> {
  const before = server.accepted().length;
  const { status, stdout, stderr } = await ssh([...args, server.name, WHERE], options);
  expect({ status, stdout }).toEqual({ status: 255, stdout: '' });
  expect(server.accepted()).toHaveLength(before);
  return stderr;
}

/** An askpass that notes its question and answers with the words of a file; without the file it refuses. */
function askpass(name: string): { env: Record<string, string>; answer: string; asked: () => string } {
  const program = setting.path(name);
  const answer = `${program}.answer`;
  const asked = `${program}.asked`;
  writeFileSync(program, `#!/bin/sh\nprintf '%s\\n' "$SSH_ASKPASS_PROMPT:$1" >>'${asked}'\ncat '${answer}'\n`);
  chmodSync(program, 0o700);
  return {
    env: { SSH_ASKPASS: program, SSH_ASKPASS_REQUIRE: 'force', DISPLAY: ':none' },
    answer,
    asked: () => (existsSync(asked) ? readFileSync(asked, 'utf8') : ''),
  };
}

const person = askpass('askpass');

beforeAll(async () => {
  keygen(setting.folder, '-q', '-t', 'ed25519', '-N', '', '-C', 'authority', '-f', 'ca');
  for (const kind of kinds) keys[kind] = setting.key(kind, kind, 'ca');
  const sha1 = ['PubkeyAcceptedAlgorithms +ssh-rsa,ssh-rsa-cert-v01@openssh.com'];
  plain = await setting.sshd({ name: 'plain', authorizedKeys: all().map(({ line }) => line), config: sha1 });
  const authority = readFileSync(setting.path('ca.pub'), 'utf8');
  certified = await setting.sshd({ name: 'certified', userAuthorities: [authority], config: sha1 });
  config = writeClientConfig(setting.path('ssh_config'), [plain, certified]);
  agent = await setting.agent({ env: person.env });
});

afterAll(() => setting.end());

describe('ssh', () => {
  it.each(kinds)('logs in with an %s key', async (kind) => {
    await agent.holdOnly([keys[kind]]);
    expect(await expectLogin(plain)).toBe(keys[kind].name);
  });

  it.each(kinds)('logs in with a certificate of an %s key', async (kind) => {
    await agent.holdOnly([keys[kind]]);
    const [label, fingerprint] = keys[kind].name.split(' ');
    expect(await expectLogin(certified)).toMatch(`${label}-CERT ${fingerprint} ID ${kind}-id (serial 0) CA ED25519 `);
  });

  it.each(['rsa-sha2-256', 'rsa-sha2-512', 'ssh-rsa'])('logs in with an RSA signature of the kind %s', async (name) => {
    await agent.holdOnly([keys.rsa]);
    await expectLogin(plain, ['-o', `PubkeyAcceptedAlgorithms=${name}`]);
    expect(
      plain
        .log()
        .match(/authenticated 1 pkalg (\S+)/g)
        ?.at(-1),
    ).toBe(`authenticated 1 pkalg ${name}`);
  });

  it.each(['rsa-sha2-256', 'rsa-sha2-512', 'ssh-rsa'])('logs in with an RSA certificate and %s', async (name) => {
    await agent.holdOnly([keys.rsa]);
    const algorithm = `${name}-cert-v01@openssh.com`;
    await expectLogin(certified, ['-o', `PubkeyAcceptedAlgorithms=${algorithm}`]);
    expect(
      certified
        .log()
        .match(/authenticated 1 pkalg (\S+)/g)
        ?.at(-1),
    ).toBe(`authenticated 1 pkalg ${algorithm}`);
  });

  it('finds the one right key among many, by its public file', async () => {
    await agent.holdOnly(all());
    const args = ['-o', 'IdentitiesOnly=yes', '-i', keys.ecdsa521.publicFile];
    expect(await expectLogin(plain, args)).toBe(keys.ecdsa521.name);
  });

  it('is not let in without the agent, nor with an agent that holds nothing', async () => {
    await agent.holdOnly([]);
    expect(await expectRefusal(plain)).toContain('Permission denied (publickey)');
    expect(await expectRefusal(plain, [], { env: { SSH_AUTH_SOCK: undefined } })).toContain('Permission denied');
  });

  it('is not let in while the agent is locked', async () => {
    await agent.holdOnly([keys.ed25519]);
    const words = askpass('lock-words');
    writeFileSync(words.answer, 'open sesame\n');
    expect(await agent.add(['-x'], { env: words.env })).toMatchObject({ status: 0, stderr: 'Agent locked.\n' });
    await expectRefusal(plain);
    expect(await agent.add(['-X'], { env: words.env })).toMatchObject({ status: 0, stderr: 'Agent unlocked.\n' });
    await expectLogin(plain);
  });

  it('is let in with a key that wants confirmation when the person agrees, and only then', async () => {
    await agent.holdOnly([keys.ed25519], '-c');
    writeFileSync(person.answer, 'yes\n');
    await expectLogin(plain);
    const fingerprint = keys.ed25519.name.split(' ')[1];
    expect(person.asked()).toMatch(
      `confirm:Allow use of key ${keys.ed25519.comment}?\nKey fingerprint ${fingerprint}.`,
    );
    rmSync(person.answer);
    expect(await expectRefusal(plain)).toContain('agent refused operation');
  });

  it('shares one log-in among many sessions by ControlMaster', async () => {
    await agent.holdOnly([keys.ecdsa256]);
    const before = plain.accepted().length;
    const control = ['-o', `ControlPath=${setting.path('control')}`];
    await expectLogin(plain, [
      ...control,
      '-o',
      'ControlMaster=yes',
      '-o',
      'ControlPersist=60',
      '-o',
      'LogLevel=ERROR',
    ]);
    try {
      await expectLogin(plain, control, { env: { SSH_AUTH_SOCK: undefined } });
      expect(plain.accepted()).toHaveLength(before + 1);
    } finally {
      await ssh([...control, '-O', 'exit', plain.name]);
    }
  });
});

describe('file transfer', () => {
  const content = 'what is copied\n'.repeat(1000);
  const source = setting.path('source');
  const target = setting.path('target');
  const env = (): Record<string, string> => ({ SSH_AUTH_SOCK: agent.path });

  async function expectCopy(command: string, args: readonly string[], input?: string): Promise<void> {
    writeFileSync(source, content);
    rmSync(target, { force: true });
    const before = plain.accepted().length;
    const run = await setting.run(command, args, { env: env(), ...(input === undefined ? {} : { input }) });
    expect(run).toMatchObject({ status: 0, stderr: '' });
    expect(readFileSync(target, 'utf8')).toBe(content);
    expect(plain.accepted().slice(before)).toEqual([keys.ed25519.name]);
  }

  beforeAll(() => agent.holdOnly([keys.ed25519]));

  it('is done by scp, in both directions and by its old protocol', async () => {
    await expectCopy('/usr/bin/scp', ['-q', '-F', config, source, `plain:${target}`]);
    await expectCopy('/usr/bin/scp', ['-q', '-F', config, `plain:${source}`, target]);
    await expectCopy('/usr/bin/scp', ['-O', '-q', '-F', config, source, `plain:${target}`]);
  });

  it('is done by sftp', async () => {
    await expectCopy('/usr/bin/sftp', ['-q', '-b', '-', '-F', config, 'plain'], `put ${source} ${target}\n`);
    await expectCopy('/usr/bin/sftp', ['-q', '-b', '-', '-F', config, 'plain'], `get ${source} ${target}\n`);
  });

  it('is done by rsync', async () => {
    await expectCopy('/usr/bin/rsync', ['-e', `/usr/bin/ssh -F ${config}`, source, `plain:${target}`]);
  });
});

describe('IdentityAgent', () => {
  beforeAll(() => agent.holdOnly([keys.ed25519]));

  it('names our agent by its path or by a variable, whatever SSH_AUTH_SOCK says', async () => {
    const nowhere = { SSH_AUTH_SOCK: setting.path('nowhere') };
    await expectRefusal(plain, [], { env: nowhere });
    await expectLogin(plain, ['-o', `IdentityAgent=${agent.path}`], { env: nowhere });
    await expectLogin(plain, ['-o', 'IdentityAgent=$OUR_AGENT'], { env: { ...nowhere, OUR_AGENT: agent.path } });
    await expectLogin(plain, ['-o', 'IdentityAgent=SSH_AUTH_SOCK']);
  });

  it('keeps ssh from our agent as none', async () => {
    await expectRefusal(plain, ['-o', 'IdentityAgent=none']);
  });
});

describe('AddKeysToAgent', () => {
  let fresh: Agent;

  beforeAll(async () => {
    fresh = await setting.agent({ env: person.env });
  });

  /** Logs in with a key file and this value; then the file is gone. @returns the request that added the key */
  async function logInAndAdd(value: string, kind: Kind, options: RunOptions = {}): Promise<Buffer | undefined> {
    const recorder = await recordAgent(setting, fresh.path);
    expect((await fresh.add(['-D'])).status).toBe(0);
    const file = setting.path('to-be-added');
    const { line, certificate } = keys[kind];
    await setting.withFile(`${file}.pub`, line, () =>
      setting.withFile(`${file}-cert.pub`, readFileSync(certificate ?? '', 'utf8'), () =>
        setting.withFile(file, keys[kind].privateText, async () => {
          const args = ['-o', `AddKeysToAgent=${value}`, '-i', file];
          await expectLogin(plain, args, { env: { ...options.env, SSH_AUTH_SOCK: recorder.path } });
        }),
      ),
    );
    const adds = recorder.exchanges.filter(({ request }) =>
      [MESSAGE.add, MESSAGE.addConstrained].includes(request[0] as 17 | 25),
    );
    for (const { answer } of adds) expect(answer).toEqual(Buffer.from([MESSAGE.success]));
    expect(adds.length).toBeLessThanOrEqual(1);
    return adds[0]?.request;
  }

  const held = async (): Promise<string> => (await fresh.add(['-L'])).stdout;
  const useFresh = (): RunOptions => ({ env: { SSH_AUTH_SOCK: fresh.path } });
  const base64 = (kind: Kind): string => keys[kind].line.split(' ')[1] ?? '';

  it.each(kinds)('yes puts an %s key into our agent, and the next log-in uses it', async (kind) => {
    expect((await logInAndAdd('yes', kind))?.[0]).toBe(MESSAGE.add);
    expect(await held()).toContain(base64(kind));
    expect(await expectLogin(plain, [], useFresh())).toBe(keys[kind].name);
  });

  it('no adds nothing', async () => {
    expect(await logInAndAdd('no', 'ed25519')).toBeUndefined();
    expect(await held()).toBe('The agent has no identities.\n');
  });

  it('confirm adds a key that our agent asks about', async () => {
    const request = await logInAndAdd('confirm', 'ed25519');
    expect([request?.[0], request?.at(-1)]).toEqual([MESSAGE.addConstrained, 2]);
    rmSync(person.answer, { force: true });
    expect(await expectRefusal(plain, [], useFresh())).toContain('agent refused operation');
    writeFileSync(person.answer, 'yes\n');
    await expectLogin(plain, [], useFresh());
  });

  it('a time adds a key that our agent forgets', async () => {
    const request = await logInAndAdd('2s', 'ecdsa256');
    expect([request?.[0], ...(request?.subarray(-5) ?? [])]).toEqual([MESSAGE.addConstrained, 1, 0, 0, 0, 2]);
    await setting.until(async () => (await held()) === 'The agent has no identities.\n');
    await expectRefusal(plain, [], useFresh());
  });

  it('confirm and a time add a key with both', async () => {
    const request = await logInAndAdd('confirm 1h', 'ecdsa384');
    expect([...(request?.subarray(-6) ?? [])]).toEqual([1, 0, 0, 0x0e, 0x10, 2]);
    expect(await held()).toContain(base64('ecdsa384'));
  });

  it('ask adds when the person says so to ssh', async () => {
    const question = askpass('ask-to-add');
    writeFileSync(question.answer, 'yes\n');
    expect((await logInAndAdd('ask', 'rsa', { env: question.env }))?.[0]).toBe(MESSAGE.add);
    expect(question.asked()).toContain('to agent?');
    expect(await held()).toContain(base64('rsa'));
  });
});

describe('ssh-keygen', () => {
  const env = (): Record<string, string> => ({ SSH_AUTH_SOCK: agent.path });
  const run = (args: readonly string[], input = ''): Promise<Run> =>
    setting.run('/usr/bin/ssh-keygen', args, { env: env(), input });

  it.each(kinds)('-Y sign signs with an %s key of the agent', async (kind) => {
    await agent.holdOnly([keys[kind]]);
    const signers = setting.path('allowed_signers');
    const { line, certificate, publicFile } = keys[kind];
    const authority = readFileSync(setting.path('ca.pub'), 'utf8');
    writeFileSync(signers, `alice ${line}\n${user} cert-authority ${authority}`);
    for (const [who, file] of [
      ['alice', publicFile],
      [user, certificate ?? ''],
    ] as const) {
      const signed = await run(['-Y', 'sign', '-q', '-n', 'file', '-f', file], 'what is signed');
      expect(signed).toMatchObject({ status: 0, stderr: '' });
      const signature = setting.path('signature');
      writeFileSync(signature, signed.stdout);
      const verify = ['-Y', 'verify', '-f', signers, '-I', who, '-n', 'file', '-s', signature];
      expect(await run(verify, 'what is signed')).toMatchObject({ status: 0 });
      expect((await run(verify, 'something else')).status).not.toBe(0);
    }
  });

  it.each([
    ['ed25519', []],
    ['ecdsa256', []],
    ['ecdsa384', []],
    ['ecdsa521', []],
    ['rsa', []],
    ['rsa', ['-t', 'rsa-sha2-256']],
    ['rsa', ['-t', 'rsa-sha2-512']],
  ] as const)('-U -s signs a certificate with an %s authority in the agent %j', async (kind, args) => {
    await agent.holdOnly([keys[kind]]);
    const place = setting.path('signed');
    mkdirSync(place);
    const subject = setting.key('signed/subject');
    const options = ['-q', '-U', '-s', keys[kind].publicFile, ...args, '-I', 'by the agent', '-n', user];
    expect(await run([...options, subject.publicFile])).toMatchObject({ status: 0, stderr: '' });
    const shown = keygen(place, '-L', '-f', 'subject-cert.pub');
    expect(shown).toContain(`Signing CA: ${keys[kind].name}`);
    if (args.length > 0) expect(shown).toContain(`(using ${args[1]})`);
    const server = await setting.sshd({ name: `trusting-${kind}${args[1] ?? ''}`, userAuthorities: [keys[kind].line] });
    const own = writeClientConfig(setting.path('trusting_config'), [server]);
    await agent.holdOnly([{ ...subject, certificate: setting.path('signed/subject-cert.pub') }]);
    expect(await expectLogin(server, ['-F', own])).toContain(`CA ${keys[kind].name}`);
    await server.stop();
    rmSync(place, { recursive: true });
  });
});

describe('sshd with HostKeyAgent', () => {
  let server: Sshd;
  let own: string;

  beforeAll(async () => {
    const hosts = kinds.map((kind) => setting.key(`host-${kind}`, kind));
    const host = await setting.agent();
    await host.hold(hosts);
    server = await setting.sshd({
      name: 'agents',
      ownHostKey: false,
      authorizedKeys: [keys.ed25519.line],
      config: [`HostKeyAgent ${host.path}`, ...hosts.map(({ publicFile }) => `HostKey ${publicFile}`)],
    });
    own = writeClientConfig(setting.path('agents_config'), [server]);
    writeFileSync(`${own}.known_hosts`, hosts.map(({ line }) => `${server.name} ${line}\n`).join(''));
    await agent.holdOnly([keys.ed25519]);
  });

  it.each([
    'ssh-ed25519',
    'ecdsa-sha2-nistp256',
    'ecdsa-sha2-nistp384',
    'ecdsa-sha2-nistp521',
    'rsa-sha2-256',
    'rsa-sha2-512',
  ])('shows itself by a signature of our agent, %s', async (name) => {
    await expectLogin(server, ['-F', own, '-o', `HostKeyAlgorithms=${name}`]);
    expect(
      server
        .log()
        .match(/kex: host key algorithm: (\S+)/g)
        ?.at(-1),
    ).toContain(name);
  });
});
