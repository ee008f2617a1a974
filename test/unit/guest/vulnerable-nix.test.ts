import { describe, expect, test } from '@jest/globals';

import { holesOf, nixWarning, requireSafeNix } from '../../../src/guest/vulnerable-nix.js';
import { errorCode } from '../../../src/lib/errors.js';

const idsOf = (version: string): string[] => holesOf(version).map(({ id }) => id);

function refusalOf(version: string, hasSshDoor: boolean, accepted: boolean): string | undefined {
  try {
    requireSafeNix(version, { hasSshDoor, accepted });
    return undefined;
  } catch (error) {
    return errorCode(error);
  }
}

describe('known holes of Nix', () => {
  test.each([
    ['2.8.0', 'CVE-2024-27297', true],
    ['2.3.18', 'CVE-2024-27297', false],
    ['2.17.1', 'CVE-2024-27297', true],
    ['2.18.1', 'CVE-2024-27297', true],
    ['2.18.2', 'CVE-2024-27297', false],
    ['2.21.0', 'CVE-2024-27297', false],
    ['2.23.0', 'CVE-2024-38531', true],
    ['2.23.1', 'CVE-2024-38531', false],
    ['2.24.5', 'CVE-2024-45593', true],
    ['2.24.6', 'CVE-2024-45593', false],
    ['2.8.0', 'CVE-2024-45593', false],
    ['2.27.1', 'CVE-2025-46416', true],
    ['2.29.1', 'CVE-2025-52993', false],
    ['2.30.0', 'CVE-2025-46415', false],
    ['2.8.0', 'CVE-2026-39860', false],
    ['2.34.4', 'CVE-2026-39860', true],
    ['2.34.5', 'CVE-2026-39860', false],
    ['2.34.6pre20260401_abcdef', 'CVE-2026-44028', true],
    ['2.24.3', 'CVE-2026-44028', false],
    ['2.34.8', 'CVE-2026-44028', false],
    ['2.34.8', 'CVE-2026-110450', true],
    ['2.36.0', 'CVE-2026-110450', false],
  ])('%s and %s: %s', (version, id, has) => {
    expect(idsOf(version).includes(id)).toBe(has);
  });

  test('each have a public advisory', () => {
    for (const { source } of holesOf('2.24.5')) expect(source).toMatch(/^https:\/\//);
  });

  test('are none in a version that is not known', () => {
    expect([idsOf('2.36.0'), idsOf('3.0.0'), idsOf('unknown'), nixWarning('2.36.0')]).toEqual([
      [],
      [],
      [],
      undefined,
    ]);
  });

  test('are named in a warning', () => {
    expect(nixWarning('2.8.0')).toMatch(/Nix 2\.8\.0.*CVE-2024-27297.*CVE-2024-38531/);
  });

  test('that builds and clients can use close the ssh door, unless they are accepted', () => {
    expect(refusalOf('2.8.0', true, false)).toBe('NIX_VULNERABLE');
    expect(refusalOf('2.8.0', true, true)).toBeUndefined();
    expect(refusalOf('2.8.0', false, false)).toBeUndefined();
    // Only trusted clients reach what this one has left.
    expect(refusalOf('2.34.8', true, false)).toBeUndefined();
  });
});
