import { expect, test } from '@jest/globals';

import { keptDirectory } from '../../../src/front/keep-failed.js';

test.each([
  [
    'of Nix 2.8',
    "note: keeping build directory '/build/nix-build-fails.drv-0'",
    '/build/nix-build-fails.drv-0',
  ],
  [
    'with colours',
    "note: keeping build directory '\u001b[35;1m/build/nix-1-2/build\u001b[0m'\n",
    '/build/nix-1-2/build',
  ],
  [
    'of Nix 2.34',
    'note: keeping build directory "/build/nix-13-4203984704/build"',
    '/build/nix-13-4203984704/build',
  ],
])('knows the note %s', (_what, text, directory) => {
  expect(keptDirectory(text)).toBe(directory);
});

test.each([
  'note: keeping build directory "/build/a\'',
  "note: keeping build directory '/etc'",
  "note: keeping build directory '/build/../etc'",
  "a note: keeping build directory '/build/x'",
])('takes nothing else for it: %s', (text) => {
  expect(keptDirectory(text)).toBeUndefined();
});
