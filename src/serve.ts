import { EXIT } from './cli/exit-codes.js';
import { systemClock } from './lib/clock.js';
import type { Log } from './lib/log.js';
import type { Supervisor } from './supervisor.js';

/**
 * Runs a supervisor until SIGTERM, SIGINT or SIGHUP: then builds may end until the deadline; a second signal, or the
 * deadline, ends them.
 * @returns the exit status: a failure if builds were cut off
 */
export async function serveUntilSignal(
  supervisor: Supervisor,
  drainTimeoutMs: number,
  log: Log,
): Promise<number> {
  await nextSignal();
  log.info({ deadlineMs: drainTimeoutMs }, 'draining: running builds may end; signal again to end them now');
  let cutOff = 0;
  const kill = (reason: string): void => {
    const { leases } = supervisor.status();
    cutOff += leases;
    log.warn({ reason, leases }, 'ending all guests');
    void supervisor.kill();
  };
  const cancelDeadline = systemClock.after(drainTimeoutMs, () => {
    kill('the deadline has passed');
  });
  void nextSignal().then(() => {
    kill('signalled again');
  });
  await supervisor.drain();
  cancelDeadline();
  await supervisor.close();
  log.info('drover has ended');
  return cutOff > 0 ? EXIT.failure : EXIT.ok;
}

async function nextSignal(): Promise<void> {
  const signals = ['SIGTERM', 'SIGINT'] as const;
  await new Promise<void>((resolve) => {
    const onSignal = (): void => {
      for (const signal of signals) process.off(signal, onSignal);
      resolve();
    };
    for (const signal of signals) process.on(signal, onSignal);
  });
}
