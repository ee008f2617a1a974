import { spawnSync } from 'node:child_process';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { pickAccelerator } from '../src/drivers/qemu/accelerator.js';
import type { Accelerator } from '../src/drivers/qemu/arguments.js';
import { findQemuPrograms, type QemuPrograms } from '../src/drivers/qemu/programs.js';
import { loadImage, type Architecture, type GuestImage } from '../src/drivers/vm/image.js';
import type { Kernel } from './options.js';

/** The kind of VM that all contenders run in. */
export interface VmKind {
  readonly image: GuestImage;
  /** Path of the image's manifest. */
  readonly manifest: string;
  readonly programs: QemuPrograms;
  /** Directory with QEMU and virtiofsd. */
  readonly bin: string;
  readonly accelerator: Accelerator;
  readonly memoryBytes: number;
  readonly scratchBytes: number;
  /** A static busybox for builds in it. */
  readonly busybox: string;
}

const GIB = 1024 ** 3;

/** Uses the tests' QEMU and images, which scripts/run.sh has made. @param dir for temporary files */
export async function prepareVms(
  packageDir: string,
  dir: string,
  architecture: Architecture,
  kernel: Kernel,
): Promise<VmKind> {
  const bin = join(packageDir, '.cache/qemu/bin');
  const name = kernel === 'stock' ? architecture : `${architecture}-${kernel}`;
  const manifest = join(packageDir, '.cache/images', name, 'manifest.json');
  const image = await loadImage(manifest);
  const programs = await findQemuPrograms(
    { ...process.env, PATH: `${bin}:${process.env['PATH'] ?? ''}` },
    architecture,
  );
  const memoryFile = join(dir, 'accelerator.json');
  const { accelerator } = await pickAccelerator({ programs, image, wanted: 'auto', memoryFile });
  const busybox = join(dir, 'busybox');
  extract(image.initrd, 'usr/bin/busybox', busybox);
  return { image, manifest, programs, bin, accelerator, memoryBytes: GIB, scratchBytes: 4 * GIB, busybox };
}

/** The image consists of Debian packages: all of it is in its initrd. */
function extract(archive: string, member: string, file: string): void {
  const input = openSync(archive, 'r');
  try {
    const { status, stdout, stderr } = spawnSync('cpio', ['--extract', '--quiet', '--to-stdout', member], {
      stdio: [input, 'pipe', 'pipe'],
      maxBuffer: 64 * 1024 * 1024,
    });
    if (status !== 0 || stdout.length === 0)
      throw new Error(`${archive} has no ${member}: ${stderr.toString()}`);
    writeFileSync(file, stdout, { mode: 0o755 });
  } finally {
    closeSync(input);
  }
}
