import { mkdtemp, rm } from 'node:fs/promises';

import { execa } from 'execa';

import { waitUntil } from './wait.js';

/** Runs a script until it can write no more. */
export async function fill(script: string, stateDir: string): Promise<void> {
  await execa('/bin/sh', ['-c', script, stateDir], { reject: false });
}

/** Programs that were killed may use it for a moment. */
export async function unmount(directory: string): Promise<void> {
  let said = '';
  await waitUntil('the end of its use', async () => {
    const { exitCode, stderr } = await execa('umount', [directory], { reject: false });
    said = stderr;
    return exitCode === 0;
  }).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${said}`);
  });
  await rm(directory, { recursive: true });
}

/** A state directory that is a small file system of its own. */
export async function mountedDirectory(options: string): Promise<string> {
  const directory = await mkdtemp('/tmp/dr-');
  await execa('mount', ['-t', 'tmpfs', '-o', `mode=0700,${options}`, 'drover', directory]);
  return directory;
}
