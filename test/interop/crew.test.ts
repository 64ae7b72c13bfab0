/**
 * The second thread for signatures that many clients ask for together, in the built agent: that it is there when there is
 * work for it and gone afterwards, that each signature is right, that keys may go meanwhile, and that no private value is
 * left where it signed.
 */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { parsePublicKey } from '../../src/keys/publickey.ts';
import { verifySignature } from '../../src/keys/signature.ts';
import { KEEP_MADE_MS } from '../../src/keys/softsigner.ts';
import { CREW_IDLE_MS } from '../../src/native/crew.ts';
import {
  type AgentProcess,
  BUILD,
  FAILURE,
  frame,
  RawClient,
  REMOVE_ALL,
  SUCCESS,
  startAgentProcess,
  until,
} from '../support/agentprocess.ts';
import { scanMemory } from '../support/memscan.ts';
import { raw } from '../unit/wire/build.ts';
import {
  addMessage,
  lifetime,
  lockMessage,
  needlesOf,
  nonceNeedles,
  removeMessage,
  signMessage,
  type TestKey,
  testKeys,
  unlockMessage,
} from './custody-keys.ts';

const CLIENTS = 8;
const SIGNATURE = 14;
const keys = testKeys([]).filter(({ type }) => /^(ssh-ed25519|ecdsa-sha2-nistp256)$/.test(type));
let agent: AgentProcess;

const threads = (): number => readdirSync(`/proc/${agent.pid}/task`).length;
const pause = (milliseconds: number): Promise<void> => new Promise((done) => setTimeout(done, milliseconds));

async function start(options?: Parameters<typeof startAgentProcess>[0]): Promise<readonly RawClient[]> {
  agent = await startAgentProcess(options);
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => RawClient.connect(agent.socket)));
  for (const key of keys) expect((await clients[0]?.ask(addMessage(key)))?.toString('hex'), key.type).toBe(SUCCESS);
  return clients;
}

interface Signed {
  readonly key: TestKey;
  readonly data: string;
  readonly answer: Buffer;
}

/** Each client asks for a signature as soon as it has the one before, until `enough`. @returns all answers */
async function signUntil(clients: readonly RawClient[], enough: () => boolean, signing = keys): Promise<Signed[]> {
  const signed: Signed[] = [];
  await Promise.all(
    clients.map(async (client, n) => {
      for (let i = 0; !enough(); i++) {
        const key = signing[(i + n) % signing.length] as TestKey;
        // Some is too long for the memory that the threads share.
        const data = `${n}, ${i}${'.'.repeat(i % 50 === 0 ? 5000 : 100)}`;
        signed.push({ key, data, answer: (await client.ask(signMessage(key, data))) ?? Buffer.alloc(0) });
      }
    }),
  );
  return signed;
}

const passed = (milliseconds: number): (() => boolean) => {
  const end = Date.now() + milliseconds;
  return () => Date.now() > end;
};

afterEach(async () => {
  if (agent.isAlive()) expect(await agent.stop()).toEqual([2, null]);
});

describe('the second thread for signatures', () => {
  it('comes when many ask together, signs as the first does, and goes when they stop', async () => {
    const clients = await start();
    const atRest = threads();
    let most = 0;
    const enough = passed(3000);
    const signed = await signUntil(clients, () => {
      most = Math.max(most, threads());
      return enough();
    });
    expect(most).toBe(atRest + 1);
    expect(signed.length).toBeGreaterThan(1000);
    const wrong = signed.filter(
      ({ key, data, answer }) =>
        answer[0] !== SIGNATURE || !verifySignature(parsePublicKey(key.blob), Buffer.from(data), answer.subarray(5)),
    );
    expect(wrong).toEqual([]);
    await until('its end', async () => threads() === atRest);
    // And comes again.
    await signUntil(clients, () => threads() > atRest);
    await until('its end', async () => threads() === atRest);
  });

  it('does not come for one client, whatever it sends at a time', async () => {
    const [client] = await start();
    const atRest = threads();
    for (let i = 0; i < 500; i++) {
      const [key] = keys;
      expect((await client?.ask(signMessage(key as TestKey, `${i}`)))?.[0]).toBe(SIGNATURE);
    }
    expect(threads()).toBe(atRest);
  });

  it('outlives keys that are removed, replaced, locked or expire while it signs', async () => {
    const clients = await start();
    const owner = await RawClient.connect(agent.socket);
    const told = async (message: Uint8Array): Promise<string | undefined> =>
      (await owner.ask(message))?.toString('hex');
    let isOver = false;
    const signing = signUntil(clients, () => isOver);
    for (let i = 0; i < 40; i++) {
      const key = keys[i % keys.length] as TestKey;
      await pause(10);
      expect(await told(removeMessage(key))).toBe(SUCCESS);
      await pause(3);
      expect(await told(addMessage(key))).toBe(SUCCESS);
      await pause(3);
      expect(await told(addMessage(key))).toBe(SUCCESS);
      if (i % 10 !== 0) continue;
      expect(await told(lockMessage('phrase'))).toBe(SUCCESS);
      await pause(3);
      expect(await told(unlockMessage('phrase'))).toBe(SUCCESS);
      expect(await told(REMOVE_ALL)).toBe(SUCCESS);
      for (const one of keys) expect(await told(addMessage(one, lifetime(1)))).toBe(SUCCESS);
    }
    isOver = true;
    const signed = await signing;
    const outcomes = new Set(signed.map(({ answer }) => (answer[0] === SIGNATURE ? 'signed' : answer.toString('hex'))));
    expect([...outcomes].sort()).toEqual([FAILURE, 'signed']);
    const wrong = signed.filter(
      ({ key, data, answer }) =>
        answer[0] === SIGNATURE && !verifySignature(parsePublicKey(key.blob), Buffer.from(data), answer.subarray(5)),
    );
    expect(wrong).toEqual([]);
  });

  it('ends with the agent, and clients that hang up in the middle cost nothing', async () => {
    const clients = await start();
    const atRest = threads();
    const [, ...leaving] = clients;
    await signUntil(clients, () => threads() > atRest);
    for (const client of leaving) {
      client.send(raw(...keys.flatMap((key) => [frame(signMessage(key, 'x')), frame(signMessage(key, 'y'))])));
      client.close();
    }
    const [key] = keys;
    expect((await clients[0]?.ask(signMessage(key as TestKey, 'z')))?.[0]).toBe(SIGNATURE);
    const others = await Promise.all(Array.from({ length: CLIENTS }, () => RawClient.connect(agent.socket)));
    await signUntil(others, () => threads() > atRest);
    for (const client of others) client.send(frame(signMessage(key as TestKey, 'last')));
    expect(await agent.stop()).toEqual([2, null]);
  });

  it('is done without where its program is missing, broken or of another build', async () => {
    for (const content of [undefined, 'throw new Error("broken")', 'another layout']) {
      const folder = mkdtempSync(join(tmpdir(), 'latchkey-crew-'));
      try {
        for (const name of ['bin', 'dist']) cpSync(join(BUILD, name), join(folder, name), { recursive: true });
        symlinkSync(join(import.meta.dirname, '../../node_modules'), join(folder, 'node_modules'));
        rmSync(join(folder, 'dist/crew.cjs'));
        if (content === 'another layout') {
          const loader = readFileSync(join(BUILD, 'dist/crew.cjs'), 'utf8');
          const chunk = join(folder, 'dist', `${/chunks\/crew-[0-9a-f]{8}/.exec(loader)?.[0]}.cjs`);
          const code = readFileSync(chunk, 'utf8');
          const other = code.replace(/="[0-9a-f\\\n]{64,70}"/, `="${'0'.repeat(64)}"`);
          expect(other).not.toBe(code);
          writeFileSync(chunk, other);
          writeFileSync(join(folder, 'dist/crew.cjs'), loader);
        } else if (content !== undefined) writeFileSync(join(folder, 'dist/crew.cjs'), content);
        const wrapper = ['/bin/sh', '-c', 'shift; exec "$0" "$@"', join(folder, 'bin/ssh-agent')];
        const clients = await start({ wrapper });
        const before = threads();
        const signed = await signUntil(clients, passed(500));
        await until('no thread more', async () => threads() === before);
        expect(signed.filter(({ answer }) => answer[0] !== SIGNATURE)).toEqual([]);
        expect(await agent.stop()).toEqual([2, null]);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    }
  });
});

const mayScan = process.platform === 'linux' && process.getuid?.() === 0;
if (!mayScan) console.warn('crew: memory is not looked at, since only root on Linux may read that of the agent');

describe.runIf(mayScan)('the memory of an agent with a second thread', () => {
  it('has no private value and no nonce of a key that was removed, nor of any when all is over', async () => {
    const clients = await start();
    const atRest = threads();
    const looked = keys.flatMap(needlesOf);
    const found = (of = looked): string[] =>
      scanMemory(agent.pid, of).found.map(({ name, mapping }) => `${name} in ${mapping}`);
    const noncesOf = (signed: readonly Signed[]): typeof looked =>
      signed.flatMap(({ key, data, answer }) => nonceNeedles(key, data, answer));
    await signUntil(clients, () => threads() > atRest);
    for (const gone of keys) {
      const traces = needlesOf(gone);
      traces.push(...noncesOf((await signUntil(clients, passed(200), [gone])).slice(-100)));
      looked.push(...traces);
      // Nothing comes to overwrite what the thread left behind.
      expect((await clients[0]?.ask(removeMessage(gone)))?.toString('hex')).toBe(SUCCESS);
      await pause(20);
      expect(threads()).toBe(atRest + 1);
      expect(found(traces), `${gone.type} removed`).toEqual([]);
      expect((await clients[0]?.ask(addMessage(gone)))?.toString('hex')).toBe(SUCCESS);
    }
    looked.push(...noncesOf((await signUntil(clients, passed(200))).slice(-100)));
    await pause(Math.max(2 * KEEP_MADE_MS, 2 * CREW_IDLE_MS) + 300);
    expect(threads()).toBe(atRest);
    expect(found()).toEqual([]);
    expect((await clients[0]?.ask(REMOVE_ALL))?.toString('hex')).toBe(SUCCESS);
    expect(found()).toEqual([]);
  });
});
