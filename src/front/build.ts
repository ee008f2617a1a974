import type { Inputs } from '../guest/provision.js';
import type { Clock } from '../lib/clock.js';
import type { Emitter } from '../lib/emitter.js';
import { DroverError, errorCode, errorMessage } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import { humanBytes } from '../lib/human.js';
import { isSuccess, type BuildResult } from '../protocol/build-result.js';
import type { Channel } from '../protocol/channel.js';
import type { BuildDerivation } from '../protocol/operations.js';
import { decodeBuildDerivationResponse, encodeBuildDerivationResponse } from '../protocol/responses.js';
import { decodeStderrFrame, encodeErrorFrame, encodeStderrFrame } from '../protocol/stderr.js';
import type { Backend } from './backend.js';
import type { FrontEvent } from './events.js';
import { outputPaths } from './requests.js';
import { refusal } from './served.js';
import { Tap } from './tap.js';

/** How often a build is started again because its guest was lost. */
const MAX_REPLAYS = 2;
/** How long a guest that misbehaves is given to turn out to be gone, in milliseconds. */
const LOSS_GRACE_MS = 1_000;
/** Failures that come from a guest's end, or from one that is no good any more. */
const LOSS_CODES: ReadonlySet<string> = new Set([
  'GUEST_GONE',
  'GUEST_AGENT_FAILED',
  'GUEST_EXEC_FAILED',
  'PROGRAM_FAILED',
]);
/** Less free scratch than this makes "no space left" the likely cause of a failure, in bytes. */
const SCRATCH_FULL_BYTES = 16 * 1024 * 1024;

export interface BuildProgress {
  guest: string | null;
  phase: string | null;
}

export interface BuildContext {
  readonly client: Channel;
  readonly backend: Backend;
  /** Nix systems that are built here now. */
  readonly systems: () => readonly string[];
  readonly clock: Clock;
  readonly events: Emitter<FrontEvent>;
  readonly log: Log;
  readonly progress: BuildProgress;
}

/**
 * One BuildDerivation, from its request to the end of its response. Afterwards the session is bound to the guest that built it.
 *
 * A guest that is lost before its result is replaced, twice at most, and the request sent again: everything that it
 * needs is the request itself and inputs from the host's store. That is not so where the client has uploaded paths into
 * the guest; then the loss is an error.
 */
export async function forwardBuild(
  request: BuildDerivation,
  raw: readonly Uint8Array[],
  context: BuildContext,
): Promise<void> {
  const { backend, clock, events, client } = context;
  const startedAt = clock.now();
  const finish = (result: string): void => {
    events.emit({
      type: 'build-finished',
      derivation: request.drvPath,
      guest: context.progress.guest,
      system: request.derivation.platform,
      result,
      durationMs: clock.now() - startedAt,
    });
  };
  const { bound } = backend;
  const inputs = backend.lookUp(request.derivation.inputSources);
  // Awaited once a guest is there; until then a failure has nobody to go to.
  inputs.catch(() => undefined);
  const avoid = new Set<string>();
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
      const result = await attempt(request, raw, inputs, avoid, tap, context);
      backend.bind();
      finish(result?.status ?? 'Error');
      return;
    } catch (error) {
      if (client.gone.aborted) {
        finish('Cancelled');
        throw error;
      }
      const guest = backend.lease?.guest.id;
      if (errorCode(error) === 'GUEST_CONFLICT' && guest !== undefined && !bound) {
        avoid.add(guest);
        await backend.dropGuest('conflict');
        continue;
      }
      const loss = await howLost(error, context);
      if (loss === undefined || guest === undefined) {
        finish('Error');
        throw error;
      }
      if (bound || ++losses > MAX_REPLAYS) {
        finish('Lost');
        // Not `error`, which is only what the loss was noticed by.
        throw new DroverError('GUEST_LOST', loss, {
          hint: "Start the build again. If guests go on ending, Drover's log and their console logs may say why.",
        });
      }
      await backend.dropGuest('lost');
      context.progress.guest = null;
      context.log.warn({ guest, loss }, 'the guest of a build was lost; building again');
      events.emit({ type: 'build-replayed', guest });
      await announceReplay(
        client,
        tap,
        `drover: ${loss}; building again in another guest (${losses} of ${MAX_REPLAYS})`,
      );
    }
  }
}

async function attempt(
  { drvPath: derivation, derivation: { outputs, platform } }: BuildDerivation,
  raw: readonly Uint8Array[],
  inputs: Promise<Inputs>,
  avoid: Set<string>,
  tap: Tap,
  context: BuildContext,
): Promise<BuildResult | undefined> {
  const { backend, client } = context;
  const { lease, guest } = await backend.takeGuest(outputPaths(outputs), avoid);
  // A guest's boot may have shown that it is not built here after all.
  const refused = refusal(platform, context.systems());
  if (refused !== undefined) {
    await client.write(encodeErrorFrame(refused));
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
      for (const part of bytes) await client.write(part);
      tap.observe(frame);
      if (frame.kind === 'error') return undefined;
      continue;
    }
    const { value, raw: response } = await guest.channel.receive(
      decodeBuildDerivationResponse(guest.version),
    );
    const explained = isSuccess(value.status) ? undefined : await explainFailure(value, context);
    for (const part of bytes) await client.write(part);
    if (explained !== undefined) await client.write(encodeBuildDerivationResponse(explained, guest.version));
    else for (const part of response) await client.write(part);
    return value;
  }
}

/** A build that found no room cannot know whose: it is told here. */
async function explainFailure(
  result: BuildResult,
  { backend }: BuildContext,
): Promise<BuildResult | undefined> {
  const stats = await backend.lease?.guest.agent.stats().catch(() => undefined);
  const full =
    (stats !== undefined &&
      stats.scratchFreeBytes < Math.min(SCRATCH_FULL_BYTES, stats.scratchTotalBytes / 10)) ||
    result.errorMessage.includes('No space left on device');
  if (!full) return undefined;
  const size = stats === undefined ? '' : ` (${humanBytes(stats.scratchTotalBytes)})`;
  return {
    ...result,
    errorMessage: `${result.errorMessage}\ndrover: the guest's scratch${size} is full; raise guest.scratchSize in Drover's configuration`,
  };
}

/** How the guest was lost, in words, if that is what `error` comes from. */
async function howLost(error: unknown, { backend, clock }: BuildContext): Promise<string | undefined> {
  const lost = backend.lease?.guest.lost;
  if (lost === undefined) return undefined;
  const hungUp = backend.guest?.channel.gone.aborted === true;
  const disobedient = LOSS_CODES.has(errorCode(error) ?? '');
  if (!lost.aborted && (hungUp || disobedient)) {
    // The end of a connection is seen before the end of the guest.
    await abortedWithin(lost, clock, LOSS_GRACE_MS);
  }
  if (lost.aborted) return errorMessage(lost.reason);
  const id = backend.lease?.guest.id ?? '';
  if (disobedient) return `the guest ${id} does not do as it is told: ${errorMessage(error)}`;
  return hungUp ? `the nix-daemon of the guest ${id} ended` : undefined;
}

async function abortedWithin(signal: AbortSignal, clock: Clock, timeoutMs: number): Promise<void> {
  let settle = (): void => undefined;
  const settled = new Promise<void>((resolve) => {
    settle = resolve;
  });
  signal.addEventListener('abort', settle, { once: true });
  const cancel = clock.after(timeoutMs, settle);
  await settled;
  cancel();
  signal.removeEventListener('abort', settle);
}

async function announceReplay(client: Channel, tap: Tap, text: string): Promise<void> {
  for (const id of tap.takeOpenActivities())
    await client.write(encodeStderrFrame({ kind: 'stop-activity', id }));
  await client.write(encodeStderrFrame({ kind: 'next', text: `${text}\n` }));
}
