import { expect, test } from '@jest/globals';

import { parseInstallable } from '../../../src/cli/vm-configuration.js';

test.each([
  ['.#box', '.#nixosConfigurations."box".config.system.build'],
  ['#box', '.#nixosConfigurations."box".config.system.build'],
  [
    "github:me/it?dir=x#my-box.example_1'",
    `github:me/it?dir=x#nixosConfigurations."my-box.example_1'".config.system.build`,
  ],
  ['./result', undefined],
  ['/nix/store/x-image', undefined],
])('reads %s', (given, expected) => {
  expect(parseInstallable(given)?.build).toBe(expected);
});

test.each(['.#', '.#a b', '.#"', '.#${x}', '.#a#b', '.#a\nb'])('rejects %j', (given) => {
  expect(() => parseInstallable(given)).toThrow('is not the name of a configuration');
});
