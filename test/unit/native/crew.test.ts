import { expect, it } from 'vitest';
import { crewForNext, useCrew, wipeCrew } from '../../../src/native/crew.ts';

it('goes without a thread that cannot be started', async () => {
  // Not absolute: Node throws at once, as it does where the system gives no more threads.
  useCrew('nowhere.cjs');
  for (let turn = 0; turn < 100; turn++) {
    for (let i = 0; i < 3; i++) expect(crewForNext()).toBeUndefined();
    await new Promise((done) => setImmediate(done));
  }
  wipeCrew();
});
