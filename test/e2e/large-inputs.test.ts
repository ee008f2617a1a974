import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';

import { startDrover } from '../support/drover.js';
import { nixHost, succeeded } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';

const FILES = 5_000;
const FILE_BYTES = 60_000;
const PATHS = 1_000;

/** Figures are for the reader: how fast a machine is, no test can know. */
function tell(what: string, startedAt: number): void {
  process.stderr.write(`  ${what}: ${((performance.now() - startedAt) / 1000).toFixed(2)} s\n`);
}

describeE2e('inputs are shared, not copied', [], () => {
  test(`an input of ${FILES} files and 300 MB`, async () => {
    await using drover = await startDrover({ config: { pool: { warmGuests: 1 } } });
    await using host = await nixHost({ drover });
    const dir = await mkdtemp('/tmp/large-');
    let input = '';
    try {
      const tree = join(dir, `e2e-${host.id}-large`);
      const contents = Buffer.alloc(FILE_BYTES, host.id);
      for (let i = 0; i < FILES; i++) {
        if (i % 100 === 0) await mkdir(join(tree, String(i / 100)), { recursive: true });
        await writeFile(join(tree, String(Math.floor(i / 100)), String(i)), contents);
      }
      input = succeeded(await host.run('nix-store', ['--add', tree])).stdout.trim();
    } finally {
      await rm(dir, { recursive: true });
    }
    const startedAt = performance.now();
    const { stderr } = succeeded(
      await host.build(
        host.derivation(
          'counts',
          'echo "$(find $input -type f | wc -l) files, $(wc -c < $input/49/4999) bytes"; echo > $out',
          `input = builtins.storePath "${input}";`,
        ),
      ),
    );
    tell('a build with a large input', startedAt);
    expect(stderr).toContain(`${FILES} files, ${FILE_BYTES} bytes\n`);
    const { totals } = await drover.status();
    expect(totals).toMatchObject({ sharedPaths: 1, copiedPaths: 0, copiedBytes: 0 });
    expect(totals.sharedBytes).toBeGreaterThan(FILES * FILE_BYTES);
  });

  test(`a closure of ${PATHS} paths`, async () => {
    await using drover = await startDrover();
    await using host = await nixHost({ drover, nixConf: { 'fsync-metadata': 'false' } });
    // Each path refers to the one before it: a chain is the deepest that a closure can be.
    const last = `(builtins.foldl' (before: i: builtins.toFile "e2e-${host.id}-\${toString i}" "\${before}\\n") ""
      (builtins.genList (i: i) ${PATHS}))`;
    succeeded(await host.run('nix-instantiate', ['--eval', '--expr', last]));
    const startedAt = performance.now();
    const { stderr } = succeeded(
      await host.build(
        host.derivation('sees', 'echo "$(ls /nix/store | wc -l) paths"; echo > $out', `input = ${last};`),
      ),
    );
    tell(`a build with a closure of ${PATHS} paths, a guest booted`, startedAt);
    expect(Number(/^(\d+) paths$/m.exec(stderr)?.[1])).toBeGreaterThanOrEqual(PATHS);
    expect((await drover.status()).totals).toMatchObject({ sharedPaths: PATHS, copiedPaths: 0 });
  });
});
