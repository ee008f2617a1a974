import { expect, test } from '@jest/globals';

import { planRosetta } from '../../../src/drivers/vz/rosetta.js';
import { macAddress, Slots } from '../../../src/drivers/vz/slots.js';

const IMAGE = { architecture: 'aarch64', systems: ['aarch64-linux', 'x86_64-linux'] } as const;
const WANTED = { enable: true, cache: true };

test.each([
  ['installed', true, WANTED, 'cache', IMAGE.systems, undefined],
  ['installed', false, WANTED, 'on', IMAGE.systems, undefined],
  ['installed', true, { enable: true, cache: false }, 'on', IMAGE.systems, undefined],
  ['installed', true, { enable: false, cache: true }, 'off', ['aarch64-linux'], undefined],
  ['notInstalled', true, WANTED, 'off', ['aarch64-linux'], /softwareupdate --install-rosetta/],
  ['notSupported', false, WANTED, 'off', ['aarch64-linux'], /no Rosetta/],
] as const)(
  'Rosetta that is %s, its cache %s, wanted %j',
  (rosetta, rosettaCache, wanted, use, systems, warning) => {
    const plan = planRosetta(IMAGE, { rosetta, rosettaCache }, wanted);
    expect(plan).toMatchObject({ use, systems });
    expect(plan.translated).toEqual(systems.filter((system) => system !== 'aarch64-linux'));
    if (warning === undefined) expect(plan.warning).toBeUndefined();
    else expect(plan.warning).toMatch(warning);
  },
);

test('an image for x86_64 needs no Rosetta for it', () => {
  const image = { architecture: 'x86_64', systems: ['x86_64-linux'] } as const;
  expect(planRosetta(image, { rosetta: 'notSupported', rosettaCache: false }, WANTED)).toMatchObject({
    use: 'off',
    systems: ['x86_64-linux'],
    warning: undefined,
  });
});

test('guests that live at the same time have slots and addresses of their own, which are used again', () => {
  const slots = new Slots();
  expect([slots.take(), slots.take(), slots.take()]).toEqual([0, 1, 2]);
  slots.release(1);
  expect([slots.take(), slots.take()]).toEqual([1, 3]);
  const addresses = [0, 1, 256].map((slot) => macAddress('/var/lib/drover', slot));
  expect(new Set([...addresses, macAddress('/elsewhere', 0)]).size).toBe(4);
  expect(macAddress('/var/lib/drover', 1)).toBe(addresses[1]);
  for (const address of addresses) expect(address).toMatch(/^02(:[0-9a-f]{2}){5}$/);
});
