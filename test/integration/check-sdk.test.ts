import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';
import { execa } from 'execa';

import { REPOSITORY } from '../support/drover.js';

test('declarations that the public metadata do not have are reported', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'sdk-'));
  try {
    await mkdir(join(dir, 'Virtualization'));
    await writeFile(
      join(dir, 'Virtualization/some.rs'),
      `    #[unsafe(super(VZBootLoader, NSObject))]
    pub struct VZLinuxBootLoader;
impl VZLinuxBootLoader {
        #[unsafe(method(initWithKernelURL:))]
}
    #[doc(alias = "VZDiskImageCachingModeCached")]
    pub const Cached: Self = Self(7);
`,
    );
    const { exitCode, stdout } = await execa('node', ['scripts/check-sdk.mjs', dir], {
      cwd: REPOSITORY,
      reject: false,
    });
    expect(exitCode).toBe(1);
    expect(stdout).toContain('VZBootLoader: there is no such class or protocol');
    expect(stdout).toContain('VZLinuxBootLoader: there is no setCommandLine:');
    expect(stdout).not.toContain('VZLinuxBootLoader: there is no initWithKernelURL:');
    expect(stdout).toContain('VZDiskImageCachingModeCached: it is 7, not 2');
  } finally {
    await rm(dir, { recursive: true });
  }
});
