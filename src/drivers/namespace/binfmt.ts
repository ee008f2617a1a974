import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

const BINFMT_DIR = '/proc/sys/fs/binfmt_misc';

/** Nix systems by the names under which QEMU's user emulators (Debian, NixOS) and Rosetta register. */
const SYSTEM_OF_HANDLER: ReadonlyMap<string, string> = new Map([
  ['qemu-aarch64', 'aarch64-linux'],
  ['aarch64-linux', 'aarch64-linux'],
  ['qemu-x86_64', 'x86_64-linux'],
  ['x86_64-linux', 'x86_64-linux'],
  ['rosetta', 'x86_64-linux'],
  ['qemu-i386', 'i686-linux'],
  ['i686-linux', 'i686-linux'],
  ['qemu-arm', 'armv7l-linux'],
  ['armv7l-linux', 'armv7l-linux'],
  ['qemu-riscv64', 'riscv64-linux'],
  ['riscv64-linux', 'riscv64-linux'],
  ['qemu-ppc64le', 'powerpc64le-linux'],
  ['powerpc64le-linux', 'powerpc64le-linux'],
  ['qemu-s390x', 's390x-linux'],
  ['s390x-linux', 's390x-linux'],
]);

/**
 * The foreign systems whose programs this host's kernel runs also inside of a build's sandbox: handlers that are
 * enabled and have the flag F, so that the interpreter was opened when it was registered.
 */
export async function emulatedSystems(directory = BINFMT_DIR): Promise<string[]> {
  let names: string[];
  try {
    names = await readdir(directory);
  } catch {
    return [];
  }
  const systems = new Set<string>();
  for (const name of names.sort()) {
    const system = SYSTEM_OF_HANDLER.get(name);
    if (system !== undefined && (await worksInSandbox(join(directory, name)))) systems.add(system);
  }
  return [...systems];
}

async function worksInSandbox(handler: string): Promise<boolean> {
  try {
    const lines = (await readFile(handler, 'utf8')).split('\n');
    return lines[0] === 'enabled' && lines.some((line) => /^flags:.*F/.test(line));
  } catch {
    return false;
  }
}
