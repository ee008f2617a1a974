import { expect, test } from '@jest/globals';

import { nixFiles, nixInstantiate } from '../support/nix-eval.js';
import { describeWith } from '../support/requirements.js';

describeWith('every Nix file', ['nix'], () => {
  test("is understood by Debian's Nix", async () => {
    const { exitCode, stderr } = await nixInstantiate('debian', ['--parse', ...(await nixFiles())]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  });
});

describeWith('every Nix file', ['nix', 'modern-nix'], () => {
  test('is understood by a modern Nix', async () => {
    const { exitCode, stderr } = await nixInstantiate('modern', ['--parse', ...(await nixFiles())]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  });
});
