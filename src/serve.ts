import { EXIT } from './cli/exit-codes.js';
import type { Config } from './config/schema.js';
import { watchConfig } from './config/watch.js';
import { systemClock } from './lib/clock.js';
import { errorMessage } from './lib/errors.js';
import type { ServiceLog } from './lib/log.js';
import { Mutex } from './lib/mutex.js';
import type { Supervisor } from './supervisor.js';

export interface ServeOptions {
  readonly config: Config;
  /** Where the configuration was read from, if it was. */
  readonly file: string | undefined;
  /** Reads it again. */
  readonly load: () => Promise<Config>;
  readonly log: ServiceLog;
}

/**
 * Runs a supervisor until SIGTERM or SIGINT: then builds may end until the deadline; a second signal, or the deadline,
 * ends them. SIGHUP, or a change of the file, has the configuration read again; SIGHUP also has the log file opened anew.
 * @returns the exit status: a failure if builds were cut off
 */
export async function serveUntilSignal(supervisor: Supervisor, options: ServeOptions): Promise<number> {
  const { log } = options.log;
  const stopReloading = await reloadOnChange(supervisor, options);
  await nextSignal();
  await stopReloading();
  const { drainTimeoutMs } = supervisor.config.pool;
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

/** One reload at a time. An invalid file changes nothing. */
async function reloadOnChange(
  supervisor: Supervisor,
  { file, load, log: serviceLog }: ServeOptions,
): Promise<() => Promise<void>> {
  const { log } = serviceLog;
  const mutex = new Mutex();
  const reload = (): void => {
    void mutex.run(async () => {
      try {
        const changes = await supervisor.reload(await load());
        if (changes.length === 0) return;
        supervisor.countReload('ok');
        const restart = changes.filter(({ kind }) => kind === 'restart').map(({ key }) => key);
        log.info({ changes }, 'configuration reloaded');
        if (restart.length > 0)
          log.warn({ keys: restart }, 'these keys take effect when drover is restarted');
      } catch (error) {
        supervisor.countReload('failed');
        log.error({ reason: errorMessage(error) }, 'the new configuration is not usable; the old one stays');
      }
    });
  };
  const onHangup = (): void => {
    serviceLog.reopen();
    reload();
  };
  process.on('SIGHUP', onHangup);
  const stopWatching = file === undefined ? undefined : await watchConfig(file, reload);
  // It may have changed between being read and being watched.
  if (file !== undefined) reload();
  return async () => {
    process.off('SIGHUP', onHangup);
    await stopWatching?.();
  };
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
