import { expect, test } from '@jest/globals';

import { parseInstallable } from '../../../src/cli/image-of-flake.js';

test.each([
  ['.#box', { flake: '.', name: 'box' }],
  ['#box', { flake: '.', name: 'box' }],
  ["github:me/it?dir=x#my-box.example_1'", { flake: 'github:me/it?dir=x', name: "my-box.example_1'" }],
  ['./result', undefined],
  ['/nix/store/x-image', undefined],
])('reads %s', (given, expected) => {
  expect(parseInstallable(given)).toEqual(expected);
});

test.each(['.#', '.#a b', '.#"', '.#${x}', '.#a#b', '.#a\nb'])('rejects %j', (given) => {
  expect(() => parseInstallable(given)).toThrow('is not the name of a configuration');
});
