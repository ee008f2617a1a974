import { readFile } from 'node:fs/promises';

import { DroverError } from '../../lib/errors.js';
import { findProgram, requireProgram } from '../../lib/programs.js';

/** Host programs that the driver uses, by absolute path. */
export interface HostPrograms {
  /** Statically linked: it is the shell and all the tools of a guest, and `/bin/sh` in its builds. */
  readonly busybox: string;
  /** Completes the registration of paths in a guest. */
  readonly sqlite3: string;
  readonly ldd: string | undefined;
}

/** @throws DroverError `REQUIREMENT_MISSING` naming what is missing, and how to get it */
export async function findPrograms(env: NodeJS.ProcessEnv): Promise<HostPrograms> {
  const busybox = await requireProgram(
    env,
    'busybox',
    'Install a static busybox (on Debian: apt-get install busybox-static).',
  );
  if (await isDynamic(busybox)) {
    throw new DroverError(
      'REQUIREMENT_MISSING',
      `${busybox} is linked dynamically and cannot run in a guest`,
      {
        hint: 'Install a static busybox (on Debian: apt-get install busybox-static).',
      },
    );
  }
  return {
    busybox,
    sqlite3: await requireProgram(env, 'sqlite3', 'Install SQLite (on Debian: apt-get install sqlite3).'),
    ldd: await findProgram(env, 'ldd'),
  };
}

/** Whether an ELF program asks for an interpreter (a program header of type PT_INTERP, elf(5); 64 bits only). */
export async function isDynamic(program: string): Promise<boolean> {
  const PT_INTERP = 3;
  const elf = await readFile(program);
  if (elf.length < 64 || elf.readUInt32BE(0) !== 0x7f454c46 || elf[4] !== 2) return false;
  const start = Number(elf.readBigUInt64LE(32));
  const size = elf.readUInt16LE(54);
  const count = elf.readUInt16LE(56);
  for (let i = 0; i < count; i++) {
    if (elf.readUInt32LE(start + i * size) === PT_INTERP) return true;
  }
  return false;
}
