import { setTimeout as delay } from 'node:timers/promises';

import { errorCode } from '../../lib/errors.js';
import { run } from '../../lib/process.js';

const POLL_INTERVAL_MS = 10;

/**
 * Ends the process `pid` if it is the QEMU of the guest whose directory is `dir`; the number may have been
 * reused.
 * @returns whether there was one; it has ended then
 */
export async function endLeftOver(pid: number, dir: string): Promise<boolean> {
  if (!Number.isInteger(pid) || pid <= 1 || !(await isQemuOf(pid, dir))) return false;
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    // It is ending by itself, as its supervisor has.
    if (errorCode(error) !== 'ESRCH') throw error;
  }
  while (await isQemuOf(pid, dir)) await delay(POLL_INTERVAL_MS);
  return true;
}

/** `ps` of POSIX, which every host has, or nothing to be found. */
async function isQemuOf(pid: number, dir: string): Promise<boolean> {
  const result = await run('ps', ['-ww', '-o', 'args=', '-p', String(pid)]).catch(() => undefined);
  return result?.exitCode === 0 && result.stdout.includes(dir);
}
