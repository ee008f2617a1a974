import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, test } from '@jest/globals';

import type { Drover } from '../support/drover.js';
import { nixHost, succeeded, type NixHost } from '../support/nix.js';
import { describeE2e, QEMU_DIR } from '../support/requirements.js';
import { onlyGuest, openDescriptors, processesOf, startVmDrover, VM_DEADLINE_MS } from '../support/vms.js';

/** Some 600 of them virtiofsd keeps for itself. */
const MAX_OPEN_FILES = 2_000;

describeE2e("a host's store on a file system without file handles", ['vms'], () => {
  let dir: string;
  let drover: Drover;
  let host: NixHost;

  beforeAll(async () => {
    dir = await mkdtemp('/tmp/drover-overlay-');
    await mkdir(join(dir, 'bin'));
    // As in a container: its root is an overlay, and so few files may be open that the limit is reached in seconds.
    const overlay = `lowerdir=/nix/store,upperdir=${dir}/layer/upper,workdir=${dir}/layer/work`;
    const virtiofsd = [
      '#!/bin/sh',
      'set -eu',
      `case $1 in --version) exec ${QEMU_DIR}/virtiofsd "$@" ;; esac`,
      `ulimit -n ${MAX_OPEN_FILES}`,
      `exec unshare --mount --propagation private sh -euc '`,
      `  mkdir -p ${dir}/layer`,
      `  mount -t tmpfs tmpfs ${dir}/layer`,
      `  mkdir ${dir}/layer/upper ${dir}/layer/work`,
      `  mount -t overlay -o ${overlay} overlay /nix/store`,
      `  exec ${QEMU_DIR}/virtiofsd "$@"' sh "$@"`,
      '',
    ];
    await writeFile(join(dir, 'bin/virtiofsd'), virtiofsd.join('\n'), { mode: 0o755 });
    const PATH = `${dir}/bin:${QEMU_DIR}:${process.env['PATH'] ?? ''}`;
    drover = await startVmDrover({
      env: { PATH },
      guest: { store: 'raw' },
      pool: { maxGuests: 1, jobsPerGuest: 1 },
    });
    host = await nixHost({ drover, deadlineMs: VM_DEADLINE_MS });
  });
  afterAll(async () => {
    await host[Symbol.asyncDispose]();
    await drover[Symbol.asyncDispose]();
    await rm(dir, { recursive: true, force: true });
  });

  /** The expression of a build that opens this many files of a new input, and ignores failures. */
  async function reading(name: string, files: number): Promise<string> {
    const directory = join(dir, `${host.id}-${name}`);
    await mkdir(directory);
    for (let i = 0; i < files; i++) await writeFile(join(directory, String(i)), `${name}\n`);
    const input = succeeded(await host.run('nix-store', ['--add', directory])).stdout.trim();
    const script =
      'n=0; for file in $input/*; do if read -r line < $file; then n=$((n + 1)); fi; done; echo $n > $out';
    return host.derivation(name, script, `input = builtins.storePath ${input};`);
  }

  test(
    'one build after the other looks at files, each at less than may be open',
    async () => {
      for (const name of ['a', 'b', 'c', 'd']) {
        const { outputs } = succeeded(await host.build(await reading(name, 600)));
        expect(await readFile(outputs[0] ?? '', 'utf8')).toBe('600\n');
      }
      const { totals, warnings } = await drover.status();
      expect(totals).toMatchObject({ guestsBooted: 1, failedBuilds: 0, replayedBuilds: 0, copiedPaths: 0 });
      expect(warnings).toContainEqual(expect.stringContaining(`can have only ${MAX_OPEN_FILES} files open`));
      for (const pid of await processesOf(drover.stateDir, await onlyGuest(drover), 'virtiofsd')) {
        expect(await openDescriptors(pid)).toBeLessThan(MAX_OPEN_FILES);
      }
    },
    2 * VM_DEADLINE_MS,
  );

  test(
    'a build that looks at more fails, also if it does not mind',
    async () => {
      const { exitCode, stderr } = await host.build(await reading('many', MAX_OPEN_FILES));
      expect(exitCode).not.toBe(0);
      expect(stderr).toContain(
        'it looked at more files of the shared store than its virtiofsd may have open',
      );
    },
    3 * VM_DEADLINE_MS,
  );
});
