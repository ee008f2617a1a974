import { expect, test } from '@jest/globals';

import { macAddress, Slots } from '../../../src/drivers/vz/slots.js';
import { planTranslation } from '../../../src/drivers/vz/translators.js';

const OLD_IMAGE = { architecture: 'aarch64', systems: ['aarch64-linux', 'x86_64-linux'] } as const;
const IMAGE = { ...OLD_IMAGE, translators: ['qemu-user'] } as const;
const ROSETTA = { enable: true, cache: true };
const BOTH = ['rosetta', 'qemu-user'] as const;
const WANTED = { rosetta: ROSETTA, x86_64: BOTH };
const NATIVE = ['aarch64-linux'];

test.each([
  ['installed', true, IMAGE, WANTED, 'cache', BOTH, undefined],
  ['installed', false, IMAGE, WANTED, 'on', BOTH, undefined],
  ['installed', true, IMAGE, { ...WANTED, rosetta: { enable: true, cache: false } }, 'on', BOTH, undefined],
  [
    'installed',
    true,
    IMAGE,
    { ...WANTED, x86_64: ['qemu-user', 'rosetta'] as const },
    'cache',
    ['qemu-user', 'rosetta'],
    undefined,
  ],
  ['installed', true, IMAGE, { ...WANTED, x86_64: ['qemu-user'] as const }, 'off', ['qemu-user'], undefined],
  [
    'installed',
    true,
    IMAGE,
    { ...WANTED, rosetta: { enable: false, cache: true } },
    'off',
    ['qemu-user'],
    undefined,
  ],
  ['installed', true, OLD_IMAGE, WANTED, 'cache', ['rosetta'], undefined],
  [
    'notInstalled',
    true,
    IMAGE,
    WANTED,
    'off',
    ['qemu-user'],
    /user emulation.*softwareupdate --install-rosetta/,
  ],
  ['notSupported', false, IMAGE, WANTED, 'off', ['qemu-user'], /no Rosetta .* user emulation/],
] as const)(
  'Rosetta that is %s, its cache %s, by the image %j, wanted %j',
  (rosetta, rosettaCache, image, wanted, use, translators, warning) => {
    const plan = planTranslation(image, { rosetta, rosettaCache }, wanted);
    expect(plan).toMatchObject({ rosetta: use, translators, systems: IMAGE.systems, absent: [] });
    expect(plan.translated).toEqual(['x86_64-linux']);
    if (warning === undefined) expect(plan.warning).toBeUndefined();
    else expect(plan.warning).toMatch(warning);
  },
);

test.each([
  [
    'notInstalled',
    WANTED,
    ['x86_64-linux'],
    /not built here; .*softwareupdate --install-rosetta/,
    /install Rosetta/,
  ],
  ['notSupported', WANTED, ['x86_64-linux'], /no Rosetta .* not built here/, /macOS that has Rosetta/],
  [
    'installed',
    { ...WANTED, x86_64: ['qemu-user'] as const },
    ['x86_64-linux'],
    /image has none of/,
    /image/,
  ],
  [
    'installed',
    { rosetta: { enable: false, cache: false }, x86_64: ['rosetta'] as const },
    [],
    undefined,
    /rosetta.enable/,
  ],
] as const)('no translator: Rosetta is %s, wanted %j', (rosetta, wanted, absent, warning, hint) => {
  const plan = planTranslation(OLD_IMAGE, { rosetta, rosettaCache: true }, wanted);
  expect(plan).toMatchObject({ rosetta: 'off', translators: [], systems: NATIVE, translated: [], absent });
  expect(plan.systemsHint).toMatch(hint);
  if (warning === undefined) expect(plan.warning).toBeUndefined();
  else expect(plan.warning).toMatch(warning);
});

test('an image for x86_64 needs no translator for it', () => {
  const image = { architecture: 'x86_64', systems: ['x86_64-linux'] } as const;
  expect(planTranslation(image, { rosetta: 'notSupported', rosettaCache: false }, WANTED)).toMatchObject({
    ...{ rosetta: 'off', translators: [], systems: ['x86_64-linux'], absent: [], warning: undefined },
  });
});

test('guests that live at the same time have slots and addresses of their own, which are used again', () => {
  const slots = new Slots();
  const [first, second, third] = [slots.take(), slots.take(), slots.take()];
  expect([first.slot, second.slot, third.slot]).toEqual([0, 1, 2]);
  second.release();
  expect(slots.take().slot).toBe(1);
  // A boot that fails is cleaned up in several places.
  second.release();
  expect(slots.take().slot).toBe(3);
  const addresses = [0, 1, 256].map((slot) => macAddress('/var/lib/drover', slot));
  expect(new Set([...addresses, macAddress('/elsewhere', 0)]).size).toBe(4);
  expect(macAddress('/var/lib/drover', 1)).toBe(addresses[1]);
  for (const address of addresses) expect(address).toMatch(/^02(:[0-9a-f]{2}){5}$/);
});
