import { text } from 'node:stream/consumers';
import { once } from 'node:events';
import type { Readable } from 'node:stream';

import { startHelper, type GuestSetup } from './helper.js';

/**
 * Tries whether this host can make a guest's namespaces and mounts, without running anything in them.
 * @returns why not; undefined if it can
 */
export async function probeSetup(helper: string, setup: GuestSetup): Promise<string | undefined> {
  const child = await startHelper(helper, setup, {}, { probe: true });
  child.stdin?.on('error', () => undefined);
  const ended = once(child, 'close').then(
    ([code, signal]) => (code === 0 ? undefined : `drover-namespace ended with ${String(signal ?? code)}`),
    (error: unknown) => String(error),
  );
  const [said, , how] = await Promise.all([
    text(child.stderr as Readable),
    text(child.stdout as Readable),
    ended,
  ]);
  return how === undefined ? undefined : said.trim().replaceAll('drover-namespace: ', '') || how;
}
