import type { GuestFile } from '../vm/guest-files.js';

const BLOCK_BYTES = 512;

/**
 * The contents of the disk `drover-config`: a tar archive (ustar), which any guest can read with no file system and
 * which takes no tool to write. Always the same bytes for the same files.
 */
export function configDisk(files: readonly GuestFile[]): Buffer {
  return Buffer.concat([
    ...files.flatMap((file) => {
      const content = Buffer.from(file.content);
      return [header(file, content.length), content, Buffer.alloc(-content.length & (BLOCK_BYTES - 1))];
    }),
    Buffer.alloc(2 * BLOCK_BYTES),
  ]);
}

function header({ name, mode }: GuestFile, bytes: number): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, offset: number, length: number): void => {
    block.write(value.toString(8).padStart(length - 1, '0'), offset, 'latin1');
  };
  block.write(name, 0, 100, 'utf8');
  octal(mode, 100, 8);
  octal(0, 108, 8); // owner
  octal(0, 116, 8); // group
  octal(bytes, 124, 12);
  octal(1, 136, 12); // time
  block.fill(' ', 148, 156); // the sum counts its own field as spaces
  block.write('0', 156); // an ordinary file
  block.write('ustar\x0000', 257, 'latin1');
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}
