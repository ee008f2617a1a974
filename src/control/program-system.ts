/** Machines of ELF (e_machine), as Nix names their Linux systems. */
const MACHINES: Readonly<Record<number, string>> = {
  0x03: 'i686-linux',
  0x15: 'powerpc64le-linux',
  0x28: 'armv7l-linux',
  0x3e: 'x86_64-linux',
  0xb7: 'aarch64-linux',
  0xf3: 'riscv64-linux',
};
const ELF = 0x7f454c46;
/** Mach-O of 64 bits, in either order of bytes, and a file with several. */
const MACH_O: readonly number[] = [0xfeedfacf, 0xcffaedfe, 0xcafebabe];
const MACHINE_OFFSET = 18;
/** EI_DATA, and its value for the order of bytes that all of these machines have. */
const DATA_OFFSET = 5;
const LITTLE_ENDIAN = 1;

/**
 * The system that a program is for.
 * @param header its first bytes
 * @returns undefined for a script, and what else does not say
 */
export function systemOfProgram(header: Buffer): string | undefined {
  if (header.length < MACHINE_OFFSET + 2) return undefined;
  const magic = header.readUInt32BE(0);
  if (MACH_O.includes(magic)) return 'darwin';
  if (magic !== ELF) return undefined;
  if (header[DATA_OFFSET] !== LITTLE_ENDIAN) return 'another machine';
  const machine = header.readUInt16LE(MACHINE_OFFSET);
  return MACHINES[machine] ?? `machine ${machine} of ELF`;
}
