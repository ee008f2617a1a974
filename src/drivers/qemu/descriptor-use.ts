import { readFile } from 'node:fs/promises';
import type { Readable } from 'node:stream';

/** What virtiofsd (1.13.2 and later) logs as a warning, when it looks at the root of what it shares. */
const NO_FILE_HANDLES = 'disabling file handles altogether';
/** What it logs as an error, once. Guests are told ENFILE from then on, which not every program heeds. */
const NONE_LEFT = 'No more file descriptors available to the guest';
/** Longer lines it does not print, in characters. */
const MAX_LINE = 4_096;

/**
 * What a virtiofsd says of its descriptors. Where the store's file system has no file handles (overlayfs has none unless
 * it is told to), it keeps a descriptor for each file that the guest remembers to have looked at.
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

/** How many files a process may have open. @throws Node's error where there is no such process */
export async function maxOpenFiles(pid: number): Promise<number> {
  return parseMaxOpenFiles(await readFile(`/proc/${pid}/limits`, 'utf8'));
}

/** @param limits what Linux shows of a process's limits */
export function parseMaxOpenFiles(limits: string): number {
  return Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? 0);
}
