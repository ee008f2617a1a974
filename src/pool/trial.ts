import { randomBytes } from 'node:crypto';

import type { GuestDriver } from '../guest/driver.js';
import { afterAwake, type Clock } from '../lib/clock.js';
import { DroverError, errorMessage } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import { isSuccess } from '../protocol/build-result.js';
import { encodeBuildDerivation } from '../protocol/operations.js';
import { decodeBuildDerivationResponse } from '../protocol/responses.js';
import { decodeStderrFrame } from '../protocol/stderr.js';
import { storePathFromBaseName, type StorePath } from '../protocol/store-path.js';
import { withDaemon, type Work } from './guest-daemon.js';
import { bootGuest, stopGuest } from './lifecycle.js';

/** Time for a guest that has booted to build one line, in milliseconds. */
const BUILD_TIMEOUT_MS = 60_000;
const BASE32 = '0123456789abcdfghijklmnpqrsvwxyz';

/** Builds a derivation of one line, which needs nothing from the host's store. */
export const buildOneLine: Work = async (running, driver, signal) => {
  const [platform = ''] = driver.manifest.systems;
  const out = randomPath('drover-trial');
  const request = encodeBuildDerivation({
    drvPath: randomPath('drover-trial.drv'),
    mode: 'normal',
    derivation: {
      outputs: new Map([['out', { path: out, hashAlgorithm: '', hash: '' }]]),
      inputSources: [],
      platform,
      builder: '/bin/sh',
      args: ['-c', 'echo ok > $out'],
      env: new Map([['out', out]]),
    },
  });
  await withDaemon(running, driver, signal, async ({ channel, version }) => {
    await channel.write(request);
    for (;;) {
      const frame = await channel.run(decodeStderrFrame());
      if (frame.kind === 'error') throw failed(frame.error.message);
      if (frame.kind === 'last') break;
    }
    const { status, errorMessage: why } = await channel.run(decodeBuildDerivationResponse(version));
    if (!isSuccess(status)) throw failed(`${status}: ${why}`);
  });
};

function failed(why: string): DroverError {
  return new DroverError('TRIAL_FAILED', `A guest booted, but could not build one line: ${why}`);
}

function randomPath(name: string): StorePath {
  const hash = [...randomBytes(32)].map((byte) => BASE32[byte % BASE32.length]).join('');
  return storePathFromBaseName(`${hash}-${name}`);
}

/**
 * Boots a guest without sessions, makes it work, and ends it.
 * @param signal gives up
 * @throws DroverError `BOOT_FAILED`, `TRIAL_FAILED`
 */
export async function tryOut(
  driver: GuestDriver,
  id: string,
  options: {
    readonly work: Work;
    readonly bootTimeoutMs: number;
    readonly clock: Clock;
    readonly log: Log;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const { work, bootTimeoutMs, clock, log, signal } = options;
  const late = new AbortController();
  const over = AbortSignal.any([signal, late.signal]);
  const running = await bootGuest(driver, { id, signal, timeoutMs: bootTimeoutMs, clock });
  const cancel = afterAwake(clock, BUILD_TIMEOUT_MS, () => {
    late.abort(failed(`it took longer than ${BUILD_TIMEOUT_MS / 1000} s`));
  });
  try {
    await work(running, driver, over);
    over.throwIfAborted();
  } catch (cause) {
    const why: unknown = over.aborted ? over.reason : cause;
    throw why instanceof DroverError ? why : failed(errorMessage(why));
  } finally {
    cancel();
    await stopGuest(running, log);
  }
}
