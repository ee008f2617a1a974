import { expect, test } from '@jest/globals';

import { makeSshKeyPair, publicKeyOf } from '../../../src/lib/ssh-key.js';

/**
 * One key in 256 would be unreadable without the check: that all of these are readable by chance has odds of
 * 1 to 2500.
 */
const KEYS = 2_000;

test(`${KEYS} keys in a row can be read, and are all different`, () => {
  const pairs = Array.from({ length: KEYS }, makeSshKeyPair);
  expect(pairs.every(({ privateKey, publicKey }) => publicKeyOf(privateKey) === publicKey)).toBe(true);
  expect(new Set(pairs.map(({ publicKey }) => publicKey)).size).toBe(KEYS);
});

test('a file that is not a private key has no public half', () => {
  expect(publicKeyOf('')).toBeUndefined();
  expect(publicKeyOf(makeSshKeyPair().publicKey)).toBeUndefined();
});
