/**
 * A program for aarch64 Linux, linked statically, that writes "aarch64\n" to the file that its first argument names.
 * By hand, since neither a compiler nor a library for that machine is needed for it.
 */
export function aarch64Program(): Buffer {
  const instructions = [
    0xf9400be1, // ldr x1, [sp, #16]    argv[1]
    0x92800c60, // mov x0, #-100        AT_FDCWD
    0xd2800822, // mov x2, #0x41        O_WRONLY | O_CREAT
    0xd2803483, // mov x3, #0644
    0xd2800708, // mov x8, #56          openat
    0xd4000001, // svc #0
    0x100000e1, // adr x1, text
    0xd2800102, // mov x2, #8
    0xd2800808, // mov x8, #64          write
    0xd4000001, // svc #0
    0xd2800000, // mov x0, #0
    0xd2800ba8, // mov x8, #93          exit
    0xd4000001, // svc #0
  ];
  const HEADERS_BYTES = 64 + 56;
  const ADDRESS = 0x400000n;
  const code = Buffer.alloc(instructions.length * 4);
  instructions.forEach((instruction, index) => code.writeUInt32LE(instruction, index * 4));
  const body = Buffer.concat([code, Buffer.from('aarch64\n')]);
  const headers = Buffer.alloc(HEADERS_BYTES);
  headers.write('\x7fELF\x02\x01\x01', 'latin1');
  headers.writeUInt16LE(2, 16); // ET_EXEC
  headers.writeUInt16LE(183, 18); // EM_AARCH64
  headers.writeUInt32LE(1, 20);
  headers.writeBigUInt64LE(ADDRESS + BigInt(HEADERS_BYTES), 24); // entry
  headers.writeBigUInt64LE(64n, 32); // program headers
  headers.writeUInt16LE(64, 52);
  headers.writeUInt16LE(56, 54);
  headers.writeUInt16LE(1, 56);
  headers.writeUInt32LE(1, 64); // PT_LOAD
  headers.writeUInt32LE(5, 68); // readable, executable
  headers.writeBigUInt64LE(ADDRESS, 80);
  headers.writeBigUInt64LE(ADDRESS, 88);
  headers.writeBigUInt64LE(BigInt(HEADERS_BYTES + body.length), 96);
  headers.writeBigUInt64LE(BigInt(HEADERS_BYTES + body.length), 104);
  headers.writeBigUInt64LE(0x1000n, 112);
  return Buffer.concat([headers, body]);
}
