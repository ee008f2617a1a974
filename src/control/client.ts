import { request, type IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';

import { DroverError, errorCode } from '../lib/errors.js';
import { StateDir } from '../lib/state-dir.js';
import { EVENTS_PATH, STATUS_PATH, type DroverEvent, type Status } from './api.js';

/** A healthy supervisor answers within milliseconds. */
const ANSWER_TIMEOUT_MS = 10_000;

/** @throws DroverError `NOT_RUNNING`, `NOT_PERMITTED` */
export async function fetchStatus(stateDir: string, timeoutMs = ANSWER_TIMEOUT_MS): Promise<Status> {
  const response = await get(stateDir, STATUS_PATH, timeoutMs);
  let text = '';
  for await (const chunk of response) text += String(chunk);
  return JSON.parse(text) as Status;
}

/**
 * Events from now on, until the supervisor ends or the signal aborts. The connection is open when the promise settles.
 * @throws DroverError `NOT_RUNNING`, `NOT_PERMITTED`
 */
export async function followEvents(
  stateDir: string,
  signal?: AbortSignal,
): Promise<AsyncGenerator<DroverEvent, void, undefined>> {
  const response = await get(stateDir, EVENTS_PATH, ANSWER_TIMEOUT_MS);
  signal?.addEventListener('abort', () => response.destroy(), { once: true });
  return (async function* () {
    try {
      for await (const line of createInterface({ input: response })) yield JSON.parse(line) as DroverEvent;
    } catch (error) {
      if (errorCode(error) !== 'ECONNRESET' && signal?.aborted !== true) throw error;
    } finally {
      response.destroy();
    }
  })();
}

async function get(stateDir: string, path: string, timeoutMs: number): Promise<IncomingMessage> {
  const { controlSocket: socketPath, pidFile } = new StateDir(stateDir);
  return await new Promise((resolve, reject) => {
    const call = request({ socketPath, path, agent: false }, (response) => {
      clearTimeout(timer);
      resolve(response);
    });
    const timer = setTimeout(() => {
      const seconds = timeoutMs / 1000;
      reject(
        new DroverError('NOT_RUNNING', `The supervisor at ${socketPath} did not answer within ${seconds} s`, {
          hint: `It is stopped or hangs; its process id is in ${pidFile}.`,
        }),
      );
      call.destroy();
    }, timeoutMs);
    call.once('error', (cause) => {
      clearTimeout(timer);
      const code = errorCode(cause);
      reject(
        code === 'EACCES' || code === 'EPERM'
          ? new DroverError('NOT_PERMITTED', `This user may not use ${socketPath}`, {
              cause,
              hint: 'Run this as the user who runs drover serve, for example with sudo.',
            })
          : new DroverError('NOT_RUNNING', `No supervisor answers at ${socketPath}`, {
              cause,
              hint: 'Start one with drover serve. If it runs with a configuration file, name that file: --config FILE.',
            }),
      );
    });
    call.end();
  });
}
