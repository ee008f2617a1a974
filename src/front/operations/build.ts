import type { Inputs } from '../../guest/provision.js';
import { DroverError, errorCode } from '../../lib/errors.js';
import { humanBytes } from '../../lib/human.js';
import { isSuccess, type BuildResult } from '../../protocol/build-result.js';
import { decodeBuildDerivation, Op, type BuildDerivation } from '../../protocol/operations.js';
import { decodeBuildDerivationResponse, encodeBuildDerivationResponse } from '../../protocol/responses.js';
import { decodeStderrFrame, encodeErrorFrame, encodeStderrFrame } from '../../protocol/stderr.js';
import type { StderrFrame } from '../../protocol/stderr.js';
import type { OperationContext, RunningBuild } from './context.js';
import type { BuildEnd } from '../events.js';
import { capture, writeAll } from '../relay.js';
import { outputPaths } from '../requests.js';
import type { Seat } from '../seat.js';
import { refusal } from '../served.js';
import { Tap } from '../tap.js';

/** With less free scratch than this, "no space left" is the likely cause of a failure, in bytes. */
const SCRATCH_FULL_BYTES = 16 * 1024 * 1024;
/** Errors that stand for the end of the guest, or of all guests. */
const LOST_CODES: ReadonlySet<string> = new Set(['GUEST_LOST', 'GUEST_FULL', 'SHUTTING_DOWN']);

/** A build as it is asked of a guest. */
interface Build {
  readonly request: BuildDerivation;
  readonly raw: readonly Uint8Array[];
  readonly inputs: Promise<Inputs>;
}

/** The side of a build that faces the client. */
interface Listener {
  readonly write: (parts: readonly Uint8Array[]) => Promise<void>;
  readonly observe: (frame: StderrFrame) => void;
  readonly started: (guest: string) => void;
}

/** A build that is repeated for its outputs: the client has seen all of it before. */
const UNHEARD: Listener = {
  write: () => Promise.resolve(),
  observe: () => undefined,
  started: () => undefined,
};

/**
 * BuildDerivation, from its request to the end of its response. Everything that it needs is the request and inputs from the
 * host's store, so any guest can do it, again if necessary.
 */
export async function serveBuild(context: OperationContext): Promise<void> {
  const { client, version, clock, events, systems, track } = context;
  const { value: request, raw } = await capture(client, Op.BuildDerivation, decodeBuildDerivation(version));
  const derivation = request.drvPath;
  const system = request.derivation.platform;
  const refused = refusal(system, systems());
  if (refused !== undefined) {
    await client.write(encodeErrorFrame(refused));
    return;
  }
  const startedAt = clock.now();
  const running: RunningBuild = { derivation, system, startedAt, guest: null, phase: null };
  track(running);
  let result: BuildEnd = 'Error';
  let succeeded = false;
  try {
    const outcome = await build(request, raw, running, context);
    if (outcome !== undefined) result = outcome.status;
    succeeded = outcome !== undefined && isSuccess(outcome.status);
  } catch (error) {
    if (client.gone.aborted) result = 'Cancelled';
    else if (LOST_CODES.has(errorCode(error) ?? '')) result = 'Lost';
    throw error;
  } finally {
    track(undefined);
    const { guest } = running;
    const durationMs = clock.now() - startedAt;
    events.emit({ type: 'build-finished', derivation, guest, system, result, succeeded, durationMs });
  }
}

/** @returns undefined if the client was told of an error instead of a result */
async function build(
  request: BuildDerivation,
  raw: readonly Uint8Array[],
  running: RunningBuild,
  context: OperationContext,
): Promise<BuildResult | undefined> {
  const { client, host, placement, events } = context;
  const tap = new Tap({
    onLogLine: () => {
      events.emit({ type: 'log-line' });
    },
    onPhase: (phase) => {
      running.phase = phase;
    },
  });
  const listener: Listener = {
    write: (parts) => writeAll(client, parts),
    observe: (frame) => {
      tap.observe(frame);
    },
    started: (guest) => {
      running.guest = guest;
    },
  };
  const inputs = host.lookUp(request.derivation.inputSources);
  // Awaited once there is a guest. An earlier failure must not count as unhandled.
  inputs.catch(() => undefined);
  const what = { request, raw, inputs };
  const outputs = outputPaths(request.derivation.outputs);
  const replay = async (notice: string): Promise<void> => {
    running.guest = null;
    for (const id of tap.takeOpenActivities()) {
      await client.write(encodeStderrFrame({ kind: 'stop-activity', id }));
    }
    await client.write(encodeStderrFrame({ kind: 'next', text: `${notice}\n` }));
  };
  const bytes = raw.reduce((sum, { length }) => sum + length, 0);
  return await placement.run({ outputs, replay }, async (seat) => {
    const result = await buildIn(seat, what, listener, context);
    if (result === undefined || !isSuccess(result.status)) return result;
    const rebuild = { outputs, bytes, run: (other: Seat) => buildIn(other, what, UNHEARD, context) };
    seat.bind(placement.results.add(rebuild) ? 'result' : 'upload');
    return result;
  });
}

/** @throws DroverError `GUEST_FULL`, GuestConflictError, or how the connection to the guest failed */
async function buildIn(
  seat: Seat,
  { request, raw, inputs }: Build,
  listener: Listener,
  context: OperationContext,
): Promise<BuildResult | undefined> {
  // The boot of a guest may have shown that it does not build this system.
  const refused = refusal(request.derivation.platform, context.systems());
  if (refused !== undefined) {
    await listener.write([encodeErrorFrame(refused)]);
    return undefined;
  }
  const { version } = context;
  const { id } = seat.guest;
  listener.started(id);
  context.events.emit({ type: 'build-started', derivation: request.drvPath, guest: id });
  await seat.provision(await inputs);
  const answer = await seat.daemon.exchange(async (channel) => {
    await writeAll(channel, raw);
    for (;;) {
      // If the client leaves, this connection is closed, and the guest's daemon stops the build.
      const { value: frame, raw: bytes } = await channel.receive(decodeStderrFrame());
      if (frame.kind === 'last') {
        const response = await channel.receive(decodeBuildDerivationResponse(version));
        return { last: bytes, response };
      }
      await listener.write(bytes);
      listener.observe(frame);
      if (frame.kind === 'error') return undefined;
    }
  });
  if (answer === undefined) return undefined;
  const { value: result, raw: unchanged } = answer.response;
  const explained = isSuccess(result.status) ? undefined : await explainFailure(result, seat);
  await listener.write(answer.last);
  await listener.write(
    explained === undefined ? unchanged : [encodeBuildDerivationResponse(explained, version)],
  );
  return result;
}

/**
 * Explains the failure of a build that ran out of space, which it cannot know itself.
 * @returns undefined if that was not the cause
 * @throws DroverError `GUEST_FULL` if the build may find more space in another guest
 */
async function explainFailure(
  result: BuildResult,
  { bond, guest, lease }: Seat,
): Promise<BuildResult | undefined> {
  const stats = await guest.agent.stats().catch(() => undefined);
  const full =
    stats !== undefined &&
    stats.scratchFreeBytes < Math.min(SCRATCH_FULL_BYTES, stats.scratchTotalBytes / 10);
  if (full) lease.retire('scratch');
  else if (!result.errorMessage.includes('No space left on device')) return undefined;
  const size = stats === undefined ? '' : ` (${humanBytes(stats.scratchTotalBytes)})`;
  if (lease.shared && bond === undefined) {
    throw new DroverError('GUEST_FULL', `The scratch of the guest ${guest.id}${size} is full`, {
      hint: "Raise guest.scratchSize in Drover's configuration.",
    });
  }
  return {
    ...result,
    errorMessage: `${result.errorMessage}\ndrover: the guest's scratch${size} is full; raise guest.scratchSize in Drover's configuration`,
  };
}
