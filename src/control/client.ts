import { request, type IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { createInterface } from 'node:readline';

import { encodeFrame } from '../guest/program.js';
import { codeFacts, type DroverErrorCode } from '../lib/error-codes.js';
import { DroverError, errorCode } from '../lib/errors.js';
import { StateDir } from '../lib/state-dir.js';
import type { RunRequest } from './runs.js';
import type { VmRequest } from './vms.js';
import type { ShellRequest } from './shells.js';
import {
  BUILDS_PATH,
  EVENTS_PATH,
  PROGRAM_PROTOCOL,
  STATUS_PATH,
  type BootReport,
  type BuildReport,
  type BuildsQuery,
  type CancelRequest,
  type ControlError,
  type StampedEvent,
  type Status,
} from './api.js';

/** A healthy supervisor answers within milliseconds. */
const ANSWER_TIMEOUT_MS = 10_000;

/** Where a supervisor listens. A whole configuration is one. */
export interface ControlAddress {
  readonly stateDir: string;
  /** The socket for a group that may look. */
  readonly control?: { readonly group: string | null; readonly path: string };
}

/** @throws DroverError `NOT_RUNNING`, `NOT_PERMITTED` */
export async function fetchStatus(stateDir: string, timeoutMs?: number): Promise<Status> {
  return await new ControlClient({ stateDir }).status(timeoutMs);
}

/** @throws DroverError `NOT_RUNNING`, `NOT_PERMITTED` */
export async function followEvents(
  stateDir: string,
  signal?: AbortSignal,
): Promise<AsyncGenerator<StampedEvent, void, undefined>> {
  return await new ControlClient({ stateDir }).followEvents(signal);
}

/**
 * A running supervisor, as the CLI sees it. A user who may not use the owner's socket is served by that of the group.
 * Every method throws DroverError `NOT_RUNNING`, `NOT_PERMITTED`, or what the supervisor answers.
 */
export class ControlClient {
  readonly #address: ControlAddress;

  constructor(address: ControlAddress) {
    this.#address = address;
  }

  async status(timeoutMs?: number): Promise<Status> {
    return (await this.#ask(STATUS_PATH, timeoutMs)) as Status;
  }

  async builds({ failed, since, names = [], limit }: BuildsQuery): Promise<readonly BuildReport[]> {
    const query = new URLSearchParams();
    if (failed === true) query.set('failed', '');
    if (since !== undefined) query.set('since', String(since));
    if (limit !== undefined) query.set('limit', String(limit));
    for (const name of names) query.append('name', name);
    return (await this.#ask(`${BUILDS_PATH}?${query.toString()}`)) as readonly BuildReport[];
  }

  async build(id: string): Promise<BuildReport> {
    return (await this.#ask(`${BUILDS_PATH}/${encodeURIComponent(id)}`)) as BuildReport;
  }

  /** @param of the id of a build or a guest */
  async log(of: string, follow: boolean): Promise<AsyncIterable<Uint8Array>> {
    const what = /^g\d+$/.test(of) ? 'guests' : 'builds';
    return await this.#call('GET', `/${what}/${encodeURIComponent(of)}/log${follow ? '?follow' : ''}`);
  }

  /** Events of the last while. */
  async recentEvents(): Promise<readonly StampedEvent[]> {
    return (await this.#ask(`${EVENTS_PATH}?recent`)) as readonly StampedEvent[];
  }

  /** Events from now on, until the supervisor ends or the signal aborts. Connected when the promise settles. */
  async followEvents(signal?: AbortSignal): Promise<AsyncGenerator<StampedEvent, void, undefined>> {
    const response = await this.#call('GET', EVENTS_PATH);
    signal?.addEventListener('abort', () => response.destroy(), { once: true });
    return (async function* () {
      try {
        for await (const line of createInterface({ input: response })) yield JSON.parse(line) as StampedEvent;
      } catch (error) {
        if (errorCode(error) !== 'ECONNRESET' && signal?.aborted !== true) throw error;
      } finally {
        response.destroy();
      }
    })();
  }

  async cancel(build: string, cancelRequest: CancelRequest): Promise<void> {
    await this.#order(`${BUILDS_PATH}/${encodeURIComponent(build)}/cancel`, cancelRequest);
  }

  /** @param guest undefined: all of them, and no more boots until `resume` */
  async drain(guest: string | undefined): Promise<void> {
    await this.#order(guest === undefined ? '/drain' : `/guests/${encodeURIComponent(guest)}/drain`);
  }

  async resume(): Promise<void> {
    await this.#order('/resume');
  }

  /** @returns the id of the guest */
  async boot(): Promise<string> {
    return ((await this.#order('/boot')) as BootReport).guest;
  }

  /**
   * Starts a shell in a guest, or in the directory of a failed build.
   * @returns the connection, on which program-server.ts serves it
   */
  async shell(where: string, shellRequest: ShellRequest): Promise<Duplex> {
    const what = /^b?\d+$/.test(where) ? 'builds' : 'guests';
    return await this.#program(`/${what}/${encodeURIComponent(where)}/shell`, shellRequest);
  }

  /** Runs a program of the store in a guest of its own. @returns as `shell` */
  async run(runRequest: RunRequest): Promise<Duplex> {
    return await this.#program('/run', runRequest);
  }

  /** Runs a system of the user in a virtual machine of its own. @returns as `shell` */
  async vm(vmRequest: VmRequest): Promise<Duplex> {
    return await this.#program('/vm', vmRequest);
  }

  async #program(path: string, programRequest: object): Promise<Duplex> {
    const response = await this.#call('POST', path, { upgrade: true });
    const { socket } = response;
    socket.write(encodeFrame('r', Buffer.from(JSON.stringify(programRequest))));
    return socket;
  }

  async #ask(path: string, timeoutMs?: number): Promise<unknown> {
    return JSON.parse(await readText(await this.#call('GET', path, { timeoutMs }))) as unknown;
  }

  async #order(path: string, body: object = {}): Promise<unknown> {
    return JSON.parse(await readText(await this.#call('POST', path, { body }))) as unknown;
  }

  async #call(
    method: 'GET' | 'POST',
    path: string,
    options: {
      readonly timeoutMs?: number | undefined;
      readonly body?: object;
      readonly upgrade?: true;
    } = {},
  ): Promise<IncomingMessage> {
    const { stateDir, control } = this.#address;
    const { controlSocket, pidFile } = new StateDir(stateDir);
    const timeoutMs = options.timeoutMs ?? ANSWER_TIMEOUT_MS;
    const call = (socketPath: string): Promise<IncomingMessage> =>
      send({ socketPath, method, path, timeoutMs, pidFile, body: options.body, upgrade: options.upgrade });
    const group = control?.group ?? null;
    try {
      return await checked(await call(controlSocket));
    } catch (error) {
      if (errorCode(error) !== 'NOT_PERMITTED' || group === null || control === undefined) throw error;
      if (method === 'POST') throw ownerOnly(group);
    }
    try {
      return await checked(await call(control.path));
    } catch (error) {
      throw errorCode(error) === 'NOT_PERMITTED' ? notInGroup(group) : error;
    }
  }
}

interface Call {
  readonly socketPath: string;
  readonly method: string;
  readonly path: string;
  readonly timeoutMs: number;
  readonly pidFile: string;
  readonly body: object | undefined;
  /** The connection becomes a program's. */
  readonly upgrade: true | undefined;
}

async function send({
  socketPath,
  method,
  path,
  timeoutMs,
  pidFile,
  body,
  upgrade,
}: Call): Promise<IncomingMessage> {
  return await new Promise((resolve, reject) => {
    const headers = upgrade === true ? { connection: 'Upgrade', upgrade: PROGRAM_PROTOCOL } : {};
    const onAnswer = (response: IncomingMessage): void => {
      clearTimeout(timer);
      resolve(response);
    };
    const call = request({ socketPath, method, path, headers, agent: false }, onAnswer);
    call.once('upgrade', (response, socket, head) => {
      if (head.length > 0) socket.unshift(head);
      onAnswer(response);
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
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** @throws DroverError with what the supervisor answered, if that is an error */
async function checked(response: IncomingMessage): Promise<IncomingMessage> {
  if ((response.statusCode ?? 0) < 400) return response;
  const { error } = JSON.parse(await readText(response)) as ControlError;
  const code = codeFacts(error.code) === undefined ? 'CONTROL_FAILED' : (error.code as DroverErrorCode);
  throw new DroverError(code, error.message, { hint: error.hint ?? undefined });
}

async function readText(response: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of response) text += String(chunk);
  return text;
}

function ownerOnly(group: string): DroverError {
  return new DroverError(
    'NOT_PERMITTED',
    `Only the user who runs drover serve may do this; members of the group ${group} may look`,
    { hint: 'Run it as that user, for example with sudo.' },
  );
}

function notInGroup(group: string): DroverError {
  return new DroverError(
    'NOT_PERMITTED',
    `Only the user who runs drover serve and members of the group ${group} may look`,
    { hint: `Run it as that user, for example with sudo, or add this user to the group ${group}.` },
  );
}
