import { createHash } from 'node:crypto';

import { WireWriter } from '../../src/protocol/wire-writer.js';

/** A file, a link or a directory, as a test has it. */
export type Tree =
  | Uint8Array
  | { readonly executable: Uint8Array }
  | { readonly target: string }
  | { readonly entries: Readonly<Record<string, Tree>> };

/** The NAR of it, as Nix writes it. */
export function narOf(tree: Tree): Buffer {
  const writer = new WireWriter().string('nix-archive-1');
  writeNode(writer, tree);
  return Buffer.from(writer.finish());
}

function writeNode(writer: WireWriter, tree: Tree): void {
  writer.string('(').string('type');
  if (tree instanceof Uint8Array) {
    writer.string('regular').string('contents').bytes(tree);
  } else if ('executable' in tree) {
    writer.string('regular').string('executable').string('').string('contents').bytes(tree.executable);
  } else if ('target' in tree) {
    writer.string('symlink').string('target').string(tree.target);
  } else {
    writer.string('directory');
    for (const [name, entry] of Object.entries(tree.entries)) {
      writer.string('entry').string('(').string('name').string(name).string('node');
      writeNode(writer, entry);
      writer.string(')');
    }
  }
  writer.string(')');
}

/** The NAR's facts in a path info. */
export function narFacts(nar: Uint8Array): { narHash: string; narSize: number } {
  return { narHash: createHash('sha256').update(nar).digest('hex'), narSize: nar.length };
}

/** The NAR of an empty file, of 112 bytes. */
export const NAR = narOf(new Uint8Array(0));
