import type { Channel } from '../../daemon/channel.js';
import type { GuestAgent } from '../../guest/agent.js';
import type { Inputs, Provisioned } from '../../guest/provision.js';
import type { DroverErrorCode } from '../../lib/error-codes.js';
import { DroverError, errorCode, errorMessage } from '../../lib/errors.js';
import { humanBytes } from '../../lib/human.js';
import type { LeasedGuest, WaitPlace } from '../../pool/lease.js';
import type { BasicDerivation } from '../../protocol/basic-derivation.js';
import { isSuccess, type BuildResult } from '../../protocol/build-result.js';
import {
  decodeBuildDerivation,
  encodeSetOptions,
  Op,
  type BuildDerivation,
} from '../../protocol/operations.js';
import { decodeBuildDerivationResponse, encodeBuildDerivationResponse } from '../../protocol/responses.js';
import type { StorePath } from '../../protocol/store-path.js';
import { decodeStderrFrame, encodeErrorFrame, encodeStderrFrame } from '../../protocol/stderr.js';
import type { ProtocolVersion } from '../../protocol/version.js';
import { decodeAll } from '../../protocol/wire.js';
import { auditedClient, auditedOutputs, type AuditedBuild, type AuditedOutput } from '../audit.js';
import type { OperationContext, RunningBuild } from './context.js';
import type { BuildOutcome } from '../journal.js';
import { keepFailed, keptDirectory } from '../keep-failed.js';
import type { Loss } from '../loss.js';
import { capture, relayLog, writeAll, type LogSink } from '../relay.js';
import { outputPaths } from '../requests.js';
import { type Refusal, refuse, REPAIR, trustAdvice, unsupportedSystem } from '../refusals.js';
import type { Seat } from '../seat.js';
import { Tap } from '../tap.js';
import { watchUsage } from '../usage.js';
import { tellPlace } from '../wait-notice.js';

/** With less free scratch than this, "no space left" is the likely cause of a failure, in bytes. */
const SCRATCH_FULL_BYTES = 16 * 1024 * 1024;
/** A translated build that has printed nothing for this long is ended, in seconds. The client can set another limit. */
const TRANSLATED_MAX_SILENT_SECONDS = 3600;
/** Length of an operation's code. */
const OP_BYTES = 8;
/** Words of the C library and of SQLite. */
const NO_SPACE = /No space left on device|database or disk is full/;
/** Errors that stand for the end of the guest, or of all guests. */
const LOST_CODES: ReadonlySet<string> = new Set<DroverErrorCode>([
  'GUEST_LOST',
  'GUEST_FULL',
  'SHUTTING_DOWN',
]);

/**
 * The parts of a request that are looked at. Arguments and environment, its largest parts, stay in its bytes: thousands
 * of builds may wait.
 */
type Asked = Omit<BuildDerivation, 'derivation'> & {
  readonly derivation: Pick<BasicDerivation, 'outputs' | 'inputSources' | 'platform'>;
};

/** A build as it is asked of a guest. */
interface Build {
  readonly request: Asked;
  readonly raw: Uint8Array;
  readonly inputs: Promise<Inputs>;
}

/** The side of a build that faces the client. */
interface Listener extends LogSink {
  readonly leased: (guest: LeasedGuest) => Promise<void>;
  readonly provisioned: (inputs: Provisioned) => void;
  /** The build has succeeded or failed, and its client is about to be told. */
  readonly succeeded: (seat: Seat, result: BuildResult) => Promise<void>;
  readonly failed: (seat: Seat) => Promise<void>;
  /** Begins to measure the build. @returns a function that ends it */
  readonly measure: (agent: GuestAgent) => () => void;
}

/** For a build that is repeated for its outputs: the client has seen all of it before. */
const UNHEARD: Omit<Listener, 'leased' | 'succeeded'> = {
  write: () => Promise.resolve(),
  observe: () => undefined,
  provisioned: () => undefined,
  failed: () => Promise.resolve(),
  measure: () => () => undefined,
};

/**
 * BuildDerivation, from its request to the end of its response. Everything that it needs is the request and inputs from
 * the host's store, so any guest can do it, again if necessary.
 */
export async function serveBuild(context: OperationContext): Promise<void> {
  const { client, version, audit, clock, events, identity, journal, log, systems, track } = context;
  const { value: request, raw } = await captureBuild(client, version);
  const derivation = request.drvPath;
  const system = request.derivation.platform;
  const denied = deniedBuild(request, context);
  if (denied !== undefined) {
    await refuse(context, Op.BuildDerivation, denied);
    return;
  }
  const refused = unsupportedSystem(system, systems());
  if (refused !== undefined) {
    await client.write(encodeErrorFrame(refused));
    return;
  }
  audit?.requireWritable();
  const startedAt = clock.now();
  const entry = journal.begin({ derivation, system, client: identity });
  const running: RunningBuild = {
    entry,
    derivation,
    system,
    startedAt,
    waitedMs: 0,
    waitingSince: startedAt,
    guest: null,
    place: undefined,
    phase: null,
    image: null,
    cpuSeconds: null,
    built: [],
  };
  track(running);
  let outcome: BuildOutcome = { result: 'Error', succeeded: false, error: null, cpuMicros: null };
  try {
    outcome = outcomeOf(await build(request, raw, running, context));
  } catch (error) {
    const text = errorMessage(client.interruption ?? error);
    if (client.gone.aborted) outcome = { ...outcome, result: 'Cancelled', error: text };
    else if (LOST_CODES.has(errorCode(error) ?? '')) outcome = { ...outcome, result: 'Lost', error: text };
    else outcome = { ...outcome, error: text };
    throw error;
  } finally {
    track(undefined);
    entry.ended(outcome);
    const { guest } = running;
    const { result, succeeded } = outcome;
    const facts = { build: entry.id, derivation, guest, system, result };
    endWait(running, clock.now());
    const durationMs = clock.now() - startedAt;
    const { waitedMs } = running;
    const times = { waitedMs: Math.round(waitedMs), durationMs: Math.round(durationMs) };
    log.info({ ...facts, ...times }, 'build ended');
    const cpuSeconds = outcome.cpuMicros === null ? running.cpuSeconds : outcome.cpuMicros / 1e6;
    events.emit({ type: 'build-finished', ...facts, succeeded, cpuSeconds, waitedMs, durationMs });
    record({ ...facts, image: running.image, outputs: running.built }, context);
  }
}

async function captureBuild(
  client: Channel,
  version: ProtocolVersion,
): Promise<{ readonly value: Asked; readonly raw: Uint8Array }> {
  const { value, raw } = await capture(client, Op.BuildDerivation, decodeBuildDerivation(version));
  const { drvPath, mode, derivation } = value;
  const { outputs, inputSources, platform } = derivation;
  return {
    value: { drvPath, mode, derivation: { outputs, inputSources, platform } },
    raw: Buffer.concat(raw),
  };
}

/** The derivation with all that a request says of it. */
function wholeDerivation(raw: Uint8Array, version: ProtocolVersion): BasicDerivation {
  return decodeAll(decodeBuildDerivation(version), raw.subarray(OP_BYTES)).derivation;
}

function record(build: AuditedBuild, { audit, id, identity }: OperationContext): void {
  audit?.record({ type: 'build', ...auditedClient(id, identity), ...build });
}

function endWait(running: RunningBuild, now: number): void {
  if (running.waitingSince !== undefined) running.waitedMs += now - running.waitingSince;
  running.waitingSince = undefined;
}

/** @param ended the result, or the error that the client was told of instead */
function outcomeOf(ended: BuildResult | string): BuildOutcome {
  if (typeof ended === 'string') return { result: 'Error', succeeded: false, error: ended, cpuMicros: null };
  const { status, errorMessage: text, cpuUserMicros, cpuSystemMicros } = ended;
  const measured = cpuUserMicros !== undefined || cpuSystemMicros !== undefined;
  return {
    result: status,
    succeeded: isSuccess(status),
    error: text === '' ? null : text,
    cpuMicros: measured ? (cpuUserMicros ?? 0) + (cpuSystemMicros ?? 0) : null,
  };
}

function isFixed({ derivation }: Asked): boolean {
  return [...derivation.outputs.values()].every(({ hash }) => hash !== '');
}

/**
 * Why this client may not have this build. Where guests are shared, Nix's own rule for untrusted users holds: only the
 * content of a fixed output proves that it is what it says.
 */
function deniedBuild(request: Asked, { identity, policy }: OperationContext): Refusal | undefined {
  if (request.mode === 'repair') return REPAIR;
  if (identity.trusted || policy().confined || isFixed(request)) return undefined;
  return {
    why: 'clients share guests here, and you are not privileged to build input-addressed derivations',
    advice: `Use Nix 2.20 or later, which sends the closure of the derivation. ${trustAdvice(identity.name)}`,
  };
}

/** @returns the result, or the error that the client was told of instead */
async function build(
  request: Asked,
  raw: Uint8Array,
  running: RunningBuild,
  context: OperationContext,
): Promise<BuildResult | string> {
  const { client, clock, host, placement, events } = context;
  const { entry } = running;
  let stopTelling = (): void => undefined;
  let directory: string | undefined;
  const tap = new Tap({
    onText: (text) => {
      directory = keptDirectory(text) ?? directory;
    },
    onBuild: () => {
      entry.started();
    },
    onLog: (text, isEnd) => {
      if (isEnd) events.emit({ type: 'log-line' });
      return entry.addLog(text, isEnd);
    },
    onPhase: (phase) => {
      running.phase = phase;
    },
  });
  const tell = async (line: string): Promise<void> => {
    await client.write(encodeStderrFrame({ kind: 'next', text: `${line}\n` }));
  };
  const leased = (guest: string, generation: string): void => {
    entry.leased(guest, generation);
    const { derivation } = running;
    events.emit({ type: 'build-started', build: entry.id, derivation, guest });
  };
  const listener: Listener = {
    write: (parts) => writeAll(client, parts),
    observe: (frame) => tap.observe(frame),
    leased: async ({ id, generation }) => {
      running.guest = id;
      running.image = generation;
      running.place = undefined;
      running.cpuSeconds = null;
      endWait(running, clock.now());
      stopTelling();
      leased(id, generation);
      await tell(`drover: build ${entry.id} in guest ${id}`);
    },
    provisioned: (provisioned) => {
      entry.provisioned(provisioned);
    },
    succeeded: async (seat, result) => {
      if (context.audit !== undefined) running.built = await builtOutputs(seat, outputs, result);
    },
    failed: async (seat) => {
      const keepMs = context.policy().keepFailedMs;
      if (keepMs === 0 || directory === undefined) return;
      const kept = { build: entry.id, directory, keepMs };
      const line = await keepFailed(seat, wholeDerivation(raw, context.version), kept);
      if (line !== undefined) await tell(line);
    },
    measure: (agent) =>
      watchUsage(agent, running.derivation, context.clock, (sample) => {
        entry.used(sample);
        running.cpuSeconds = Math.max(running.cpuSeconds ?? 0, sample.cpuSeconds);
      }),
  };
  const repeated = (): Listener => ({
    ...UNHEARD,
    leased: ({ id, generation }) => {
      leased(id, generation);
      return Promise.resolve();
    },
    // Its outputs may differ from those that the client was never told more about than their paths.
    succeeded: async (seat, result) => {
      if (context.audit === undefined) return;
      const { id: guest, generation: image } = seat.guest;
      const built = await builtOutputs(seat, outputs, result);
      const { derivation, system } = running;
      const facts = { build: entry.id, derivation, system, guest, image };
      record({ ...facts, result: result.status, outputs: built }, context);
    },
  });
  const inputs = host.lookUp(request.derivation.inputSources);
  // Awaited once there is a guest. An earlier failure must not count as unhandled.
  inputs.catch(() => undefined);
  const what = { request, raw, inputs };
  const outputs = outputPaths(request.derivation.outputs);
  const replay = async (notice: string, { guest, text }: Loss): Promise<void> => {
    running.guest = null;
    running.phase = null;
    running.waitingSince = clock.now();
    entry.replayed(guest, text);
    await entry.addLog(notice);
    for (const id of tap.takeOpenActivities()) {
      await client.write(encodeStderrFrame({ kind: 'stop-activity', id }));
    }
    await tell(notice);
  };
  const bytes = raw.length;
  const onWait = (place: () => WaitPlace): void => {
    running.place = place;
    stopTelling();
    stopTelling = tellPlace(place, tell, clock);
  };
  const need = { outputs, replay, onWait };
  return await placement
    .run(need, async (seat) => {
      const result = await buildIn(seat, what, listener, context);
      if (typeof result === 'string' || !isSuccess(result.status)) return result;
      const rebuild = { outputs, bytes, run: (other: Seat) => buildIn(other, what, repeated(), context) };
      seat.bind(placement.results.add(rebuild) ? 'result' : 'upload');
      // Another guest would not have these inputs, nor make outputs with the same paths.
      const { infos } = await inputs;
      const own = request.derivation.inputSources.filter((path) => !infos.has(path));
      placement.results.noteValid([...own, ...result.builtOutputs.map(({ outPath }) => outPath)]);
      return result;
    })
    .finally(() => {
      stopTelling();
    });
}

/** Outputs of a build, for the audit log. */
async function builtOutputs(
  seat: Seat,
  outputs: readonly StorePath[],
  { builtOutputs: realised }: BuildResult,
): Promise<readonly AuditedOutput[]> {
  const paths = [...new Set([...outputs, ...realised.map(({ outPath }) => outPath)])];
  return auditedOutputs(paths, await seat.daemon.queryPathInfos(paths));
}

/**
 * @returns the result, or the error that the client was told of instead
 * @throws DroverError `GUEST_FULL`, GuestConflictError, or how the connection to the guest failed
 */
async function buildIn(
  seat: Seat,
  { request, raw, inputs }: Build,
  listener: Listener,
  context: OperationContext,
): Promise<BuildResult | string> {
  // The boot of a guest may have shown that it does not build this system.
  const refused = unsupportedSystem(request.derivation.platform, context.systems());
  if (refused !== undefined) {
    await listener.write([encodeErrorFrame(refused)]);
    return refused;
  }
  const { version } = context;
  await listener.leased(seat.guest);
  const outputs = outputPaths(request.derivation.outputs);
  // A check compares with what is valid.
  const makes = request.mode !== 'check';
  const killsBefore = seat.guest.agent.memory()?.kills;
  if (makes) await seat.requireUnbuilt(outputs);
  listener.provisioned(await seat.provision(await inputs));
  await limitSilence(seat, request, context);
  const explainFailure = async (message: string): Promise<string | undefined> =>
    (await explain(message, seat, killsBefore)) ?? (await explainNetwork(message, request, seat));
  const stopMeasuring = listener.measure(seat.guest.agent);
  const exchange = seat.daemon.exchange(async (channel) => {
    await channel.write(raw);
    // If the client leaves, this connection is closed, and the guest's daemon stops the build.
    await relayLog(channel, listener);
    const { value: frame, raw: bytes } = await channel.receive(decodeStderrFrame());
    if (frame.kind !== 'error') {
      const response = await channel.receive(decodeBuildDerivationResponse(version));
      return { last: bytes, response };
    }
    const message = await explainFailure(frame.error.message);
    const error = { ...frame.error, message: message ?? frame.error.message };
    await listener.write(message === undefined ? bytes : [encodeStderrFrame({ ...frame, error })]);
    return error.message;
  });
  const answer = await exchange.finally(stopMeasuring);
  if (typeof answer === 'string') return answer;
  const { value: result, raw: unchanged } = answer.response;
  if (makes && isSuccess(result.status)) seat.noteBuilt(outputs);
  const text = isSuccess(result.status) ? undefined : await explainFailure(result.errorMessage);
  const explained = text === undefined ? result : { ...result, errorMessage: text };
  // Up to here another guest can take over. Then the client has its answer, and must get no other.
  await (isSuccess(result.status) ? listener.succeeded(seat, result) : listener.failed(seat));
  await listener.write(answer.last);
  await listener.write(text === undefined ? unchanged : [encodeBuildDerivationResponse(explained, version)]);
  return explained;
}

/**
 * Explains the failure of a build that ran out of memory or space, which it cannot know itself.
 * @param message that Nix has for it
 * @param killsBefore processes of the guest that had been killed for memory before
 * @returns undefined if neither was the cause
 * @throws DroverError `GUEST_FULL` if the build may find more space in another guest
 */
async function explain(
  message: string,
  seat: Seat,
  killsBefore: number | undefined,
): Promise<string | undefined> {
  const memory = seat.guest.agent.memory();
  if (memory !== undefined && memory.kills > (killsBefore ?? memory.kills)) {
    const { limitBytes, peakBytes } = memory;
    const peak = peakBytes === undefined ? '' : `, peak ${humanBytes(peakBytes)}`;
    return `${message}\ndrover: the kernel killed a process of the guest ${seat.guest.id}, whose builds reached its memory limit (${humanBytes(limitBytes)}${peak}); raise guest.memory in Drover's configuration`;
  }
  return await explainSpace(message, seat);
}

/** @throws DroverError `GUEST_FULL` if the build may find more space in another guest */
async function explainSpace(message: string, { bond, guest, lease }: Seat): Promise<string | undefined> {
  const stats = await guest.agent.stats().catch(() => undefined);
  const full =
    stats !== undefined &&
    stats.scratchFreeBytes < Math.min(SCRATCH_FULL_BYTES, stats.scratchTotalBytes / 10);
  if (full) lease.retire('scratch');
  else if (!NO_SPACE.test(message)) return undefined;
  const size = stats === undefined ? '' : ` (${humanBytes(stats.scratchTotalBytes)})`;
  if (lease.shared && bond === undefined) {
    throw new DroverError('GUEST_FULL', `The scratch of the guest ${guest.id}${size} is full`, {
      hint: "Raise guest.scratchSize in Drover's configuration.",
    });
  }
  return `${message}\ndrover: the guest's scratch${size} is full; raise guest.scratchSize in Drover's configuration`;
}

/** Explains the failure of a build that downloads, in a guest without a network. */
async function explainNetwork(message: string, request: Asked, { guest }: Seat): Promise<string | undefined> {
  if (!isFixed(request)) return undefined;
  const stats = await guest.agent.stats().catch(() => undefined);
  if (stats?.routed !== false) return undefined;
  return `${message}\ndrover: the guest ${guest.id} has no way out: guest.network is none, or it got no DHCP lease; see docs/mac.md#network`;
}

/** Translators are known to let programs hang, and Nix's client sets no limit by default. */
async function limitSilence(
  seat: Seat,
  { derivation }: Asked,
  { placement, translated }: OperationContext,
): Promise<void> {
  const { options } = placement;
  if (options === undefined || options.maxSilentTime > 0 || translated().size === 0) return;
  if (options.overrides.has('max-silent-time')) return;
  // Other builds, too: the one before, on the same connection, may have been translated.
  const maxSilentTime = translated().has(derivation.platform) ? TRANSLATED_MAX_SILENT_SECONDS : 0;
  await seat.daemon.setOptions([encodeSetOptions({ ...options, maxSilentTime })]);
}
