import type { Architecture } from '../vm/image.js';

/** `exit(42)`, as a kernel says it about its first process. */
export const PROBE_EXIT = 'exitcode=0x00002a00';

/**
 * ELF machine numbers, and `exit(42)` in machine code: load the system call's number and its argument into
 * registers, then trap.
 */
const PROGRAMS: Readonly<Record<Architecture, { machine: number; code: Buffer }>> = {
  x86_64: { machine: 62, code: Buffer.from('bf2a000000b83c0000000f05', 'hex') },
  aarch64: { machine: 183, code: Buffer.from('400580d2a80b80d2010000d4', 'hex') },
};
const LOAD_ADDRESS = 0x400000;
const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;

/** An initrd whose only program ends at once, with a status that tells that it ran. */
export function probeInitrd(architecture: Architecture): Buffer {
  const init = elf(PROGRAMS[architecture]);
  return Buffer.concat([cpioEntry('init', 0o100755, init), cpioEntry('TRAILER!!!', 0, Buffer.alloc(0))]);
}

/** The smallest ELF program for Linux: two headers and code (elf(5)). */
function elf({ machine, code }: { machine: number; code: Buffer }): Buffer {
  const start = ELF_HEADER_BYTES + PROGRAM_HEADER_BYTES;
  const file = Buffer.alloc(start + code.length);
  file.write('\x7fELF\x02\x01\x01', 'latin1');
  file.writeUInt16LE(2, 16); // an executable
  file.writeUInt16LE(machine, 18);
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(BigInt(LOAD_ADDRESS + start), 24); // entry
  file.writeBigUInt64LE(BigInt(ELF_HEADER_BYTES), 32); // program headers
  file.writeUInt16LE(ELF_HEADER_BYTES, 52);
  file.writeUInt16LE(PROGRAM_HEADER_BYTES, 54);
  file.writeUInt16LE(1, 56); // one program header
  file.writeUInt16LE(64, 58);
  file.writeUInt32LE(1, 64); // to be loaded
  file.writeUInt32LE(5, 68); // readable, executable
  file.writeBigUInt64LE(BigInt(LOAD_ADDRESS), 80);
  file.writeBigUInt64LE(BigInt(LOAD_ADDRESS), 88);
  file.writeBigUInt64LE(BigInt(file.length), 96);
  file.writeBigUInt64LE(BigInt(file.length), 104);
  file.writeBigUInt64LE(0x1000n, 112);
  code.copy(file, start);
  return file;
}

/** One file in the kernel's archive format, `newc`: thirteen numbers of eight hexadecimal digits, name, contents. */
function cpioEntry(name: string, mode: number, content: Buffer): Buffer {
  const fields = [1, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length + 1, 0];
  const head = Buffer.from(`070701${fields.map((n) => n.toString(16).padStart(8, '0')).join('')}${name}\0`);
  return Buffer.concat([head, Buffer.alloc(-head.length & 3), content, Buffer.alloc(-content.length & 3)]);
}
