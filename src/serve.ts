import { stat } from 'node:fs/promises';

import type { Config } from './config/schema.js';
import { watchConfig } from './config/watch.js';
import { systemClock } from './lib/clock.js';
import { Emitter } from './lib/emitter.js';
import { EXIT } from './lib/error-codes.js';
import { DroverError, errorMessage } from './lib/errors.js';
import type { ServiceLog } from './lib/log.js';
import { Mutex } from './lib/mutex.js';
import { whenStalled } from './lib/stall.js';
import type { Supervisor } from './supervisor.js';

export interface ServeOptions {
  readonly config: Config;
  /** File that the configuration was read from, if any. */
  readonly file: string | undefined;
  /** Reads the configuration again: see loadConfig. */
  readonly load: () => Promise<Config>;
  readonly log: ServiceLog;
}

/**
 * Starts a supervisor, and runs it until SIGTERM or SIGINT. Then running builds may finish until the deadline; the
 * deadline or a second signal ends them. SIGHUP and changes of the file reload the configuration; SIGHUP also reopens
 * the log and the audit log.
 * @returns the exit status: a failure if builds were cut off
 */
export async function serveUntilSignal(
  start: () => Promise<Supervisor>,
  options: ServeOptions,
): Promise<number> {
  const { log } = options.log;
  // From here on: signals during the start take effect after it.
  const [signalled, signalledAgain] = endingSignals();
  const hangups = new Emitter<undefined>();
  const onHangup = (): void => {
    options.log.reopen();
    hangups.emit(undefined);
  };
  process.on('SIGHUP', onHangup);
  // A log may be rotated during the start.
  const early = { hangup: false };
  const stopNoting = hangups.on(() => {
    early.hangup = true;
  });
  // Before it is ready: what becomes of the file from then on is a change.
  const isToldOnce = options.file !== undefined && !(await canBeReadAgain(options.file));
  const supervisor = await start();
  stopNoting();
  if (early.hangup) supervisor.reopenFiles();
  hangups.on(() => {
    supervisor.reopenFiles();
  });
  const stopReloading = isToldOnce ? undefined : await reloadOnChange(supervisor, hangups, options);
  await signalled;
  await stopReloading?.();
  const { drainTimeoutMs } = supervisor.config.pool;
  log.info({ drainTimeoutMs }, 'draining: running builds may end; signal again to end them now');
  let cutOff = 0;
  const kill = (reason: string): void => {
    const { leases } = supervisor.status();
    cutOff += leases;
    log.warn({ reason, leases }, 'ending all guests');
    void supervisor.kill();
  };
  const cancelDeadline = whenStalled(
    systemClock,
    () => supervisor.progress,
    drainTimeoutMs,
    () => {
      kill('no build has made progress within pool.drainTimeout');
    },
  );
  void signalledAgain.then(() => {
    kill('signalled again');
  });
  await supervisor.drain();
  cancelDeadline();
  await supervisor.close();
  log.info('drover has ended');
  return cutOff > 0 ? EXIT.failure : EXIT.ok;
}

/** Reloads one at a time. An invalid file is rejected; the running configuration stays in force. */
async function reloadOnChange(
  supervisor: Supervisor,
  hangups: Emitter<undefined>,
  { file, load, log: { log } }: ServeOptions,
): Promise<() => Promise<void>> {
  const mutex = new Mutex();
  const reload = (): void => {
    void mutex.run(async () => {
      try {
        const changes = await supervisor.reload(await load());
        if (changes.length === 0) {
          if (supervisor.status().reloadError !== null) supervisor.noteReload();
          return;
        }
        supervisor.noteReload();
        const restart = changes.filter(({ kind }) => kind === 'restart').map(({ key }) => key);
        log.info({ changes }, 'configuration reloaded');
        if (restart.length > 0)
          log.warn({ keys: restart }, 'these keys take effect when drover is restarted');
      } catch (error) {
        supervisor.noteReload(errorMessage(error));
        const hint = error instanceof DroverError ? error.hint : undefined;
        log.error(
          { reason: errorMessage(error), hint },
          'the new configuration is not usable; the old one stays',
        );
      }
    });
  };
  const stopListening = hangups.on(reload);
  const onFailure = (error: unknown): void => {
    log.warn(
      { file, reason: errorMessage(error) },
      'configuration file cannot be watched; reload it by SIGHUP',
    );
  };
  const stopWatching = file === undefined ? undefined : await watchConfig(file, reload, onFailure);
  // The file may have changed between the first read and the start of the watcher.
  if (file !== undefined) reload();
  return async () => {
    stopListening();
    await stopWatching?.();
  };
}

/** A pipe, as of a shell's `<(…)`, is empty the second time or never ends, and an empty configuration is valid. */
async function canBeReadAgain(file: string): Promise<boolean> {
  const found = await stat(file).catch(() => undefined);
  return found === undefined || found.isFile();
}

/** Settle at the first and at the second SIGTERM or SIGINT. A third ends the process, as the system does by default. */
function endingSignals(): [Promise<void>, Promise<void>] {
  const signals = ['SIGTERM', 'SIGINT'] as const;
  const waiting: (() => void)[] = [];
  const next = (): Promise<void> => new Promise((resolve) => waiting.push(resolve));
  const promises: [Promise<void>, Promise<void>] = [next(), next()];
  const onSignal = (): void => {
    waiting.shift()?.();
    if (waiting.length === 0) for (const signal of signals) process.off(signal, onSignal);
  };
  for (const signal of signals) process.on(signal, onSignal);
  return promises;
}
