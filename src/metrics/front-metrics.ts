import { BUILD_ENDS, type DoorName, type FrontEvent, REPLAY_CAUSES } from '../front/events.js';
import type { Emitter } from '../lib/emitter.js';
import { SESSION_CODES } from '../lib/error-codes.js';
import type { Instruments } from './instruments.js';
import { BoundedLabel, namesOf } from './labels.js';

/** Bytes between clients and the front, seen from the front. */
export interface RelayedBytes {
  readonly receivedBytes: number;
  readonly sentBytes: number;
}

/** The part of a front that is measured. */
export interface FrontSource {
  readonly events: Emitter<FrontEvent>;
  /**
   * Bytes of the open sessions, so that they count before their session ends. A session must leave this sum
   * in the same turn as its `session-closed`. Without it, a session's bytes count once it has closed.
   */
  readonly openBytes?: RelayedBytes;
}

/** From a derivation that writes one file to a browser. */
const BUILD_BUCKETS_SECONDS = [0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 1800, 3600, 7200, 14_400, 43_200];

/** From paths that are shared to gigabytes that are copied. */
const PROVISION_BUCKETS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 120, 600];

const DOORS = namesOf<DoorName>({ socket: true, ssh: true });

/** Number of error codes admitted beside `SESSION_CODES` and `UNKNOWN`, first come, first served. */
const SPARE_CODES = 32;

/**
 * Counts sessions, builds and the bytes they move.
 * @param systems Nix systems that guests build for; all others count as `other`
 */
export function collectFront(front: FrontSource, systems: readonly string[], make: Instruments): void {
  const listeners = [
    buildCounters(systems, make),
    provisionCounters(make),
    sessionCounters(make),
    byteCounters(front, make),
  ];
  front.events.on((event) => {
    for (const listener of listeners) listener(event);
  });
}

function buildCounters(systems: readonly string[], make: Instruments): (event: FrontEvent) => void {
  const systemLabel = new BoundedLabel(systems);
  const builds = make.counter(
    'drover_builds_total',
    "Builds that ended, by system and by Nix's status, or Lost, Cancelled or Error if there was none.",
    ['system', 'result'],
    systemLabel.initial.flatMap((system) => BUILD_ENDS.map((result) => ({ system, result }))),
  );
  const seconds = make.histogram(
    'drover_build_seconds',
    'Time that a build had a guest: provisioning and replays included, waiting for a guest not.',
    BUILD_BUCKETS_SECONDS,
    ['system'],
    systemLabel.initial.map((system) => ({ system })),
  );
  const processor = make.counter(
    'drover_build_cpu_seconds_total',
    'Processor time of builds that ended, by system, as far as it was measured: not that of builds under a second.',
    ['system'],
    systemLabel.initial.map((system) => ({ system })),
  );
  const replayed = make.counter(
    'drover_builds_replayed_total',
    'Builds started again in another guest because theirs was lost, or filled by other builds.',
    ['cause'],
    REPLAY_CAUSES.map((cause) => ({ cause })),
  );
  const lines = make.counter('drover_build_log_lines_total', 'Log lines of builds.');
  return (event) => {
    if (event.type === 'log-line') lines.inc();
    else if (event.type === 'build-replayed') replayed.inc({ cause: event.cause });
    else if (event.type === 'build-finished') {
      const system = systemLabel.of(event.system);
      builds.inc({ system, result: event.result });
      processor.inc({ system }, event.cpuSeconds ?? 0);
      // A build that never got a guest took no time of any.
      if (event.guest !== null) seconds.observe({ system }, (event.durationMs - event.waitedMs) / 1000);
    }
  };
}

function provisionCounters(make: Instruments): (event: FrontEvent) => void {
  const how = [{ how: 'shared' }, { how: 'copied' }];
  const paths = make.counter(
    'drover_provisioned_paths_total',
    'Store paths made valid in guests, by how: shared without moving them, or copied.',
    ['how'],
    how,
  );
  const bytes = make.counter(
    'drover_provisioned_bytes_total',
    'Size as NAR of the store paths made valid in guests, by how. Shared paths do not move.',
    ['how'],
    how,
  );
  const seconds = make.histogram(
    'drover_provision_seconds',
    'Time to make the inputs of a build valid in a guest.',
    PROVISION_BUCKETS_SECONDS,
    [],
    [{}],
  );
  return (event) => {
    if (event.type !== 'provisioned') return;
    seconds.observe(event.durationMs / 1000);
    paths.inc({ how: 'shared' }, event.sharedPaths);
    paths.inc({ how: 'copied' }, event.copiedPaths);
    bytes.inc({ how: 'shared' }, event.sharedBytes);
    bytes.inc({ how: 'copied' }, event.copiedBytes);
  };
}

function sessionCounters(make: Instruments): (event: FrontEvent) => void {
  const doors = DOORS.map((door) => ({ door }));
  const code = new BoundedLabel([...SESSION_CODES, 'UNKNOWN'], SPARE_CODES);
  const opened = make.counter('drover_sessions_opened_total', 'Sessions opened, by door.', ['door'], doors);
  const open = make.gauge('drover_sessions_open', 'Sessions that are open, by door.', ['door'], doors);
  const failed = make.counter(
    'drover_sessions_failed_total',
    'Sessions that ended with an error, by door and its code. This includes clients that disconnect in the middle of an operation.',
    ['door', 'code'],
    DOORS.flatMap((door) => code.initial.map((value) => ({ door, code: value }))),
  );
  return (event) => {
    if (event.type === 'session-opened') {
      opened.inc({ door: event.door });
      open.inc({ door: event.door });
    } else if (event.type === 'session-closed') {
      open.dec({ door: event.door });
      if (event.error !== undefined) failed.inc({ door: event.door, code: code.of(event.error) });
    }
  };
}

/** Channels count their bytes anyway: they are added up at a scrape, at no cost for each chunk. */
function byteCounters(front: FrontSource, make: Instruments): (event: FrontEvent) => void {
  let received = 0;
  let sent = 0;
  make.readCounter(
    'drover_relayed_bytes_total',
    'Bytes of the worker protocol, by direction.',
    'direction',
    () => {
      const open = front.openBytes;
      return [
        ['from_client', received + (open?.receivedBytes ?? 0)],
        ['to_client', sent + (open?.sentBytes ?? 0)],
      ];
    },
  );
  return (event) => {
    if (event.type !== 'session-closed') return;
    received += event.receivedBytes;
    sent += event.sentBytes;
  };
}
