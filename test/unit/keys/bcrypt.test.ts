import { describe, expect, it } from 'vitest';
import { bcryptPbkdf, MAX_BCRYPT_ROUNDS } from '../../../src/keys/bcrypt.ts';
import { utf8 } from '../../../src/wire/bytes.ts';

const derive = async (pass: string, salt: string, length: number, rounds: number): Promise<string> =>
  Buffer.from(await bcryptPbkdf(utf8(pass), utf8(salt), length, rounds)).toString('hex');

describe('bcrypt_pbkdf', () => {
  // From the regression tests of OpenBSD's libutil.
  it.each([
    ['password', 'salt', 4, '5bbf0cc293587f1c3635555c27796598d47e579071bf427e9d8fbe842aba34d9'],
    ['password', '\0', 4, 'c12b566235eee04c212598970a579a67'],
    ['\0', 'salt', 4, '6051be18c2f4f82cbf0efee5471b4bb9'],
  ])('gives what OpenBSD gives for %j and %j', async (pass, salt, rounds, expected) => {
    expect(await derive(pass, salt, expected.length / 2, rounds)).toBe(expected);
  });

  it('spreads several blocks over the output, so that a longer output is not a longer prefix', async () => {
    const [short, long] = [await derive('password', 'salt', 32, 1), await derive('password', 'salt', 64, 1)];
    const everySecond = (long.match(/../g) ?? []).filter((_, i) => i % 2 === 0).join('');
    expect(everySecond).toBe(short);
  });

  it('lets others run while it works', async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    await derive('password', 'salt', 48, 32);
    clearInterval(timer);
    expect(turns).toBeGreaterThan(0);
  });

  it.each([
    ['no rounds', 'p', 's', 32, 0],
    ['too many rounds', 'p', 's', 32, MAX_BCRYPT_ROUNDS + 1],
    ['all the rounds that a file can ask for', 'p', 's', 32, 0xffffffff],
    ['an empty passphrase', '', 's', 32, 1],
    ['an empty salt', 'p', '', 32, 1],
    ['a salt beyond its bound', 'p', 's'.repeat(1025), 32, 1],
    ['no output', 'p', 's', 0, 1],
    ['too much output', 'p', 's', 1025, 1],
  ])('refuses %s at once', async (_, pass, salt, length, rounds) => {
    await expect(derive(pass, salt, length, rounds)).rejects.toMatchObject({ name: 'KeyError', code: 'out-of-bounds' });
  });
});
