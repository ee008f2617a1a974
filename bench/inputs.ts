import { randomFillSync } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { runName, type Host } from './host.js';

const FILES_PER_DIRECTORY = 100;

/** A tree of files for store paths that differ in one small file. */
export class InputTree {
  readonly #dir: string;
  readonly #host: Host;

  private constructor(dir: string, host: Host) {
    this.#dir = dir;
    this.#host = host;
  }

  static async create(host: Host, bytes: number, files: number): Promise<InputTree> {
    const dir = join(host.dir, `drover-bench-input-${bytes / 1e6}MB-${runName(host.dir)}`);
    const content = randomFillSync(Buffer.alloc(Math.floor(bytes / files)));
    for (let i = 0; i < files; i++) {
      const directory = join(dir, String(Math.floor(i / FILES_PER_DIRECTORY)));
      if (i % FILES_PER_DIRECTORY === 0) await mkdir(directory, { recursive: true });
      content.writeUInt32LE(i);
      await writeFile(join(directory, String(i)), content);
    }
    return new InputTree(dir, host);
  }

  /** A store path that is new to every builder. */
  async fresh(): Promise<string> {
    await writeFile(join(this.#dir, 'stamp'), this.#host.nonce());
    return await this.#host.add(this.#dir);
  }
}
