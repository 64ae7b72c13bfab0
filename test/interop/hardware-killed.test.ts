/**
 * The built agent whose helpers for tokens and security keys are killed under it, again and again: each request is
 * answered, other keys sign meanwhile, and nothing is left. Kills in the middle of a provider's own call are in
 * pkcs11-providers.test.ts and fido.test.ts. LATCHKEY_HELPER_KILLS says how often.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { RawClient, signMessage } from '../support/agentprocess.ts';
import { status } from '../support/control.ts';
import { AskpassPerson } from '../support/hardware.ts';
import { type ImportedKey, SOFTHSM, type SoftHsm, softHsm } from '../support/pkcs11.ts';
import { children, type SecurityKeyFolder, securityKeyFolder } from '../support/securitykey.ts';
import { type Agent, Setting } from './fixtures/setting.ts';

const KILLS = Number(process.env.LATCHKEY_HELPER_KILLS ?? 40);
const PIN = '4711';
const FAILURE = 5;
const SIGNATURE = 14;

const setting = new Setting();
const person = new AskpassPerson(setting.path('person'));
let hsm: SoftHsm;
let sk: SecurityKeyFolder;
let agent: Agent;
let onToken: ImportedKey;

const blobIn = (file: string): Uint8Array =>
  new Uint8Array(Buffer.from(readFileSync(file, 'utf8').split(' ')[1] ?? '', 'base64'));

beforeAll(async () => {
  hsm = softHsm();
  hsm.initialise('pocket', PIN);
  onToken = hsm.importKey('pocket', PIN, 'rsa', 'login', '01');
  sk = securityKeyFolder();
  sk.keygen('quiet', 'ed25519-sk', '-O', 'no-touch-required');
  person.types(PIN);
  const env = { ...hsm.env, ...person.env, SOFTSK_DELAY_MS: '4' };
  agent = await setting.agent({ args: ['-P', `${sk.folder}/*,/usr/lib/*`], env });
});

afterAll(async () => {
  await setting.end();
  hsm.remove();
  sk.remove();
});

/** But not who types the PIN. */
const helpers = (): readonly number[] =>
  children(agent.pid).flatMap(({ pid, name }) => (['askpass', 'cat'].includes(name) ? [] : [pid]));

function kill(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It was quicker.
    }
  }
}

test(`helpers that are killed ${KILLS} times cost their own requests at most`, { timeout: 3_600_000 }, async () => {
  const soft = setting.key('soft');
  await agent.hold([soft]);
  expect(await agent.add(['-S', sk.provider, `${sk.folder}/quiet`])).toMatchObject({ status: 0 });
  expect(await agent.add(['-s', SOFTHSM], { env: person.env })).toMatchObject({ status: 0 });
  const blobs = { token: onToken.blob, device: blobIn(`${sk.folder}/quiet.pub`), memory: blobIn(soft.publicFile) };
  const clients = {
    token: await RawClient.connect(agent.path),
    device: await RawClient.connect(agent.path),
    memory: await RawClient.connect(agent.path),
  };
  const names = ['token', 'device', 'memory'] as const;
  const request = (name: (typeof names)[number]) => clients[name].ask(signMessage(blobs[name], 'x'));
  for (const name of names) expect((await request(name))?.[0]).toBe(SIGNATURE);
  const used = async () => (await status(agent.path)).custody.usedBytes;
  const descriptors = (): number => readdirSync(`/proc/${agent.pid}/fd`).length;
  const before = { used: await used(), descriptors: descriptors() };
  const signed = { token: 0, device: 0, memory: 0 };
  for (let i = 0; i < KILLS; i++) {
    const work = names.map((name) => request(name));
    // In the second round of two those too that come in their place.
    for (let n = 0; n <= i % 2; n++) {
      await sleep((i * 7) % 30);
      kill(helpers());
    }
    const answers = await Promise.all(work);
    names.forEach((name, at) => {
      const number = answers[at]?.[0];
      expect([FAILURE, SIGNATURE]).toContain(number);
      if (number === SIGNATURE) signed[name]++;
    });
  }
  expect(signed.memory).toBe(KILLS);
  for (const name of names) expect((await request(name))?.[0]).toBe(SIGNATURE);
  expect(await used()).toBe(before.used);
  // The last connections and helpers go when they go.
  await setting.until(() => helpers().length === 1 && descriptors() <= before.descriptors);
  for (const client of Object.values(clients)) client.close();
});
