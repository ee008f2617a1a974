import type { Inputs } from '../guest/provision.js';
import type { Clock } from '../lib/clock.js';
import type { Emitter } from '../lib/emitter.js';
import { DroverError, errorCode } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import { humanBytes } from '../lib/human.js';
import { isSuccess, type BuildResult } from '../protocol/build-result.js';
import type { Channel } from '../daemon/channel.js';
import type { BuildDerivation } from '../protocol/operations.js';
import { decodeBuildDerivationResponse, encodeBuildDerivationResponse } from '../protocol/responses.js';
import { decodeStderrFrame, encodeErrorFrame, encodeStderrFrame } from '../protocol/stderr.js';
import type { Backend } from './backend.js';
import type { BuildEnd, FrontEvent } from './events.js';
import { howLost, MAX_REPLAYS } from './loss.js';
import { outputPaths } from './requests.js';
import type { Results } from './results.js';
import { refusal } from './served.js';
import { Tap } from './tap.js';

/** Less free scratch than this makes "no space left" the likely cause of a failure, in bytes. */
const SCRATCH_FULL_BYTES = 16 * 1024 * 1024;

export interface BuildProgress {
  guest: string | null;
  phase: string | null;
}

export interface BuildContext {
  readonly client: Channel;
  readonly backend: Backend;
  /** Of this session, so far. */
  readonly results: Results;
  /** Nix systems that are built here now. */
  readonly systems: () => readonly string[];
  readonly clock: Clock;
  readonly events: Emitter<FrontEvent>;
  readonly log: Log;
  readonly progress: BuildProgress;
}

/** A build as it is asked of a guest. */
interface Build {
  readonly request: BuildDerivation;
  readonly raw: readonly Uint8Array[];
  readonly inputs: Promise<Inputs>;
}

/** What becomes of the bytes for the client. */
type Write = (bytes: Uint8Array) => Promise<void>;

/**
 * One BuildDerivation, from its request to the end of its response. Afterwards the session is bound to the guest that
 * built it; `results` knows how to do without that one.
 *
 * A guest that is lost before its result, or that others have filled, is replaced, twice at most, and the request sent
 * again: everything that it needs is the request itself and inputs from the host's store. That is not so where the client has uploaded paths into
 * the guest; then the loss is an error.
 */
export async function forwardBuild(
  request: BuildDerivation,
  raw: readonly Uint8Array[],
  context: BuildContext,
): Promise<void> {
  const { backend, clock, events, client, results } = context;
  const startedAt = clock.now();
  const finish = (result: BuildEnd, succeeded = false): void => {
    events.emit({
      type: 'build-finished',
      derivation: request.drvPath,
      guest: context.progress.guest,
      system: request.derivation.platform,
      result,
      succeeded,
      durationMs: clock.now() - startedAt,
    });
  };
  const { bound } = backend;
  const inputs = backend.lookUp(request.derivation.inputSources);
  // Awaited once a guest is there; until then a failure has nobody to go to.
  inputs.catch(() => undefined);
  const build = { request, raw, inputs };
  const tap = new Tap({
    onLogLine: () => {
      events.emit({ type: 'log-line' });
    },
    onPhase: (phase) => {
      context.progress.phase = phase;
    },
  });
  for (let losses = 0; ;) {
    try {
      const result = await attempt(build, tap, context, (bytes) => client.write(bytes));
      const bytes = raw.reduce((sum, { length }) => sum + length, 0);
      const kept = results.add(() => attempt(build, undefined, context, () => Promise.resolve()), bytes);
      backend.bind(kept ? 'result' : 'upload');
      finish(result?.status ?? 'Error', result !== undefined && isSuccess(result.status));
      return;
    } catch (error) {
      if (client.gone.aborted) {
        finish('Cancelled');
        throw error;
      }
      const guest = backend.lease?.guest.id;
      const loss = await howLost(error, backend, clock).catch((last: unknown) => {
        finish('Lost');
        throw last;
      });
      if (loss === undefined || guest === undefined) {
        finish('Error');
        throw error;
      }
      if (bound || ++losses > MAX_REPLAYS) {
        finish('Lost');
        if (errorCode(error) === 'GUEST_FULL') throw error;
        // Not `error`, which is only what the loss was noticed by.
        throw new DroverError('GUEST_LOST', loss, {
          hint: "Start the build again. If guests go on ending, Drover's log and their console logs may say why.",
        });
      }
      await backend.dropGuest('lost');
      context.progress.guest = null;
      context.log.warn({ guest, loss }, 'the guest of a build is lost or full; building again');
      events.emit({ type: 'build-replayed', guest });
      await announceReplay(
        client,
        tap,
        `drover: ${loss}; building again in another guest (${losses} of ${MAX_REPLAYS})`,
      );
    }
  }
}

/** Builds in the session's guest, or in the first one that can. */
async function attempt(
  build: Build,
  tap: Tap | undefined,
  context: BuildContext,
  write: Write,
): Promise<BuildResult | undefined> {
  const { backend } = context;
  const avoid = new Set<string>();
  for (;;) {
    try {
      return await attemptIn(avoid, build, tap, context, write);
    } catch (error) {
      const guest = backend.lease?.guest.id;
      if (errorCode(error) !== 'GUEST_CONFLICT' || guest === undefined || backend.bound) throw error;
      avoid.add(guest);
      await backend.dropGuest('conflict');
    }
  }
}

async function attemptIn(
  avoid: Set<string>,
  { request, raw, inputs }: Build,
  tap: Tap | undefined,
  context: BuildContext,
  write: Write,
): Promise<BuildResult | undefined> {
  const { backend } = context;
  const {
    drvPath: derivation,
    derivation: { outputs, platform },
  } = request;
  const { lease, guest } = await backend.takeGuest(outputPaths(outputs), avoid);
  // A guest's boot may have shown that it is not built here after all.
  const refused = refusal(platform, context.systems());
  if (refused !== undefined) {
    await write(encodeErrorFrame(refused));
    return undefined;
  }
  context.progress.guest = lease.guest.id;
  context.events.emit({ type: 'build-started', derivation, guest: lease.guest.id });
  await backend.provision(await inputs);
  for (const part of raw) await guest.channel.write(part);
  for (;;) {
    // When the client leaves, this connection is closed; the guest's daemon then stops the build.
    const { value: frame, raw: bytes } = await guest.channel.receive(decodeStderrFrame());
    if (frame.kind !== 'last') {
      for (const part of bytes) await write(part);
      tap?.observe(frame);
      if (frame.kind === 'error') return undefined;
      continue;
    }
    const { value, raw: response } = await guest.channel.receive(
      decodeBuildDerivationResponse(guest.version),
    );
    const explained = isSuccess(value.status) ? undefined : await explainFailure(value, context);
    for (const part of bytes) await write(part);
    if (explained !== undefined) await write(encodeBuildDerivationResponse(explained, guest.version));
    else for (const part of response) await write(part);
    return value;
  }
}

/**
 * A build that found no room cannot know whose: it is told here.
 * @throws DroverError `GUEST_FULL` where it may find more in another guest
 */
async function explainFailure(
  result: BuildResult,
  { backend: { bound, lease } }: BuildContext,
): Promise<BuildResult | undefined> {
  const stats = await lease?.guest.agent.stats().catch(() => undefined);
  const full =
    stats !== undefined &&
    stats.scratchFreeBytes < Math.min(SCRATCH_FULL_BYTES, stats.scratchTotalBytes / 10);
  if (full) lease?.retire('scratch');
  else if (!result.errorMessage.includes('No space left on device')) return undefined;
  const size = stats === undefined ? '' : ` (${humanBytes(stats.scratchTotalBytes)})`;
  if (lease?.shared === true && !bound) {
    throw new DroverError('GUEST_FULL', `The scratch of the guest ${lease.guest.id}${size} is full`, {
      hint: "Raise guest.scratchSize in Drover's configuration.",
    });
  }
  return {
    ...result,
    errorMessage: `${result.errorMessage}\ndrover: the guest's scratch${size} is full; raise guest.scratchSize in Drover's configuration`,
  };
}

async function announceReplay(client: Channel, tap: Tap, text: string): Promise<void> {
  for (const id of tap.takeOpenActivities())
    await client.write(encodeStderrFrame({ kind: 'stop-activity', id }));
  await client.write(encodeStderrFrame({ kind: 'next', text: `${text}\n` }));
}
