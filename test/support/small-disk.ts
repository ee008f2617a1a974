import { mkdtemp, rm } from 'node:fs/promises';

import { execa } from 'execa';

/** Runs a script until it can write no more. */
export async function fill(script: string, stateDir: string): Promise<void> {
  await execa('/bin/sh', ['-c', script, stateDir], { reject: false });
}

export async function unmount(directory: string): Promise<void> {
  await execa('umount', [directory]);
  await rm(directory, { recursive: true });
}

/** A state directory that is a small file system of its own. */
export async function mountedDirectory(options: string): Promise<string> {
  const directory = await mkdtemp('/tmp/dr-');
  await execa('mount', ['-t', 'tmpfs', '-o', `mode=0700,${options}`, 'drover', directory]);
  return directory;
}
