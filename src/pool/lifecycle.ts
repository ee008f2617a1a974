import type { BootOptions, GuestDriver, RunningGuest } from '../guest/driver.js';
import type { Clock } from '../lib/clock.js';
import { DroverError, errorCode, errorMessage } from '../lib/errors.js';
import type { Log } from '../lib/log.js';

export interface TimedBootOptions extends BootOptions {
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/**
 * Boots a guest, and gives up after a while.
 * @throws DroverError `BOOT_FAILED`, whatever the driver threw: it names the cause and the console log
 */
export async function bootGuest(
  driver: GuestDriver,
  { id, signal, timeoutMs, clock, own, onPhase }: TimedBootOptions,
): Promise<RunningGuest> {
  const late = new AbortController();
  const cancelTimeout = clock.after(timeoutMs, () => {
    late.abort(new DroverError('BOOT_TIMEOUT', `it was not ready after ${timeoutMs / 1000} s`));
  });
  const either = AbortSignal.any([signal, late.signal]);
  try {
    return await driver.boot({ id, signal: either, own, onPhase });
  } catch (cause) {
    throw bootFailed(driver, id, either, cause);
  } finally {
    cancelTimeout();
  }
}

/** A driver that was told to stop may only know that its guest died: the pool knows why. */
function bootFailed(driver: GuestDriver, id: string, signal: AbortSignal, cause: unknown): DroverError {
  const said = errorMessage(cause);
  const timeout = errorCode(signal.reason) === 'BOOT_TIMEOUT' ? errorMessage(signal.reason) : undefined;
  const known = timeout === undefined || said.includes(timeout);
  if (known && cause instanceof DroverError && cause.code === 'BOOT_FAILED') return cause;
  const consoleLog = driver.consoleLog(id);
  const lines = [
    `The guest ${id} did not boot: ${known ? '' : `${timeout}. `}${said}`,
    ...(said.includes(consoleLog) ? [] : [`(console log: ${consoleLog})`]),
  ];
  return new DroverError('BOOT_FAILED', lines.join('\n'), { cause, context: { guest: id, consoleLog } });
}

/** Ends an unused guest. Never rejects: a guest that cannot be ended is logged, and stays in the books. */
export async function stopGuest(running: RunningGuest, log: Log): Promise<void> {
  try {
    await running.stop();
  } catch (error) {
    log.warn({ err: error }, 'a guest did not stop; killing it');
    await killGuest(running, log);
  }
}

/** Never rejects. @returns whether it is gone */
export async function killGuest(running: RunningGuest, log: Log): Promise<boolean> {
  try {
    await running.kill();
    return true;
  } catch (error) {
    log.error({ err: error }, 'a guest could not be killed');
    return false;
  }
}
