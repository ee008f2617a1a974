import { describe, expect, test } from '@jest/globals';

import { nixFiles, nixInstantiate } from '../support/nix-eval.js';
import { describeWith } from '../support/requirements.js';

describe('every Nix file', () => {
  test("is understood by Debian's Nix", async () => {
    const { exitCode, stderr } = await nixInstantiate('debian', ['--parse', ...(await nixFiles())]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  });
});

describeWith('every Nix file', ['modern Nix'], () => {
  test('is understood by a modern Nix', async () => {
    const { exitCode, stderr } = await nixInstantiate('modern', ['--parse', ...(await nixFiles())]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  });
});
