import { readFile } from 'node:fs/promises';
import type { Readable } from 'node:stream';

/** Warning of virtiofsd (1.13.2 and later) when it looks at the root of the shared directory. */
const NO_FILE_HANDLES = 'disabling file handles altogether';
/** Error that it logs once. From then on guests get ENFILE, which not every program handles. */
const NONE_LEFT = 'No more file descriptors available to the guest';
/** Longer lines it does not print, in characters. */
const MAX_LINE = 4_096;

/**
 * Descriptor use as reported by a virtiofsd. If the store's file system has no file handles (overlayfs has
 * none by default), virtiofsd keeps a descriptor for each file in the guest's lookup cache.
 */
export class DescriptorUse {
  /** Settles when a guest was refused a file for want of a descriptor: what builds then make may be wrong. */
  readonly exhausted: Promise<void>;
  /** Whether it has said that it keeps one for each file. */
  keepsOnePerFile = false;

  constructor(log: Readable | null) {
    this.exhausted = new Promise((resolve) => {
      let line = '';
      log?.on('data', (chunk: Buffer) => {
        const lines = (line + chunk.toString('latin1')).split('\n');
        line = lines.at(-1)?.slice(-MAX_LINE) ?? '';
        if (lines.some((text) => text.includes(NO_FILE_HANDLES))) this.keepsOnePerFile = true;
        if (lines.some((text) => text.includes(NONE_LEFT))) resolve();
      });
    });
  }
}

/** Maximum number of open files of a process. @throws Node's error if there is no such process */
export async function maxOpenFiles(pid: number): Promise<number> {
  return parseMaxOpenFiles(await readFile(`/proc/${pid}/limits`, 'utf8'));
}

/** @param limits what Linux shows of a process's limits */
export function parseMaxOpenFiles(limits: string): number {
  return Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? 0);
}
