/** Processor time, memory and IO of one build, as measured in its guest. */
export interface BuildUsage {
  /**
   * `cgroup`: the build's own control group. `proc`: sampled from /proc, so the last moments of the build are missing;
   * bytes are those that system calls have moved.
   */
  readonly source: 'cgroup' | 'proc';
  readonly cpuSeconds: number;
  readonly peakMemoryBytes: number | null;
  readonly readBytes: number | null;
  readonly writtenBytes: number | null;
}

/** When each step of a build was reached, in milliseconds since 1970; null if it was not. */
export interface BuildTimes {
  readonly asked: number;
  readonly leased: number | null;
  readonly provisioned: number | null;
  readonly started: number | null;
  readonly ended: number | null;
  readonly fetched: number | null;
}

/** One build as the history keeps it. Everything in it that a client or a guest has chosen is hostile text. */
export interface BuildRecord {
  /** Unique in the life of a state directory; shown as `b<id>`. */
  readonly id: number;
  /** Store path of the derivation, and its name without hash and `.drv`. */
  readonly derivation: string;
  readonly name: string;
  readonly system: string;
  readonly client: { readonly door: string; readonly domain: string; readonly name: string };
  /** The last guest that the build was given; null while it waits. */
  readonly guest: string | null;
  /** Generation of that guest's image. */
  readonly generation: string | null;
  readonly times: BuildTimes;
  /** Nix's name of the status, or `Lost`, `Cancelled`, `Error`, `Interrupted`; null while the build goes on. */
  readonly result: string | null;
  readonly succeeded: boolean | null;
  readonly error: string | null;
  readonly replays: readonly { readonly guest: string; readonly reason: string; readonly at: number }[];
  /** Paths of all guests that the build was given, and their bytes as NARs. */
  readonly inputs: {
    readonly shared: number;
    readonly sharedBytes: number;
    readonly copied: number;
    readonly copiedBytes: number;
  };
  /** Bytes that were sent to the client after the result: mostly outputs. */
  readonly relayedBytes: number;
  readonly usage: BuildUsage | null;
  /** Lines and bytes of the build's log, and the bytes of its file, if any; `bytes` counts what was not kept, too. */
  readonly log: { readonly lines: number; readonly bytes: number; readonly storedBytes: number };
}

/** A record on disk. */
export interface StoredRecord extends BuildRecord {
  /** The whole log, if it is so short that it has no file. */
  readonly text?: string | undefined;
}

/** A line of a history file. */
export function encodeRecord(record: StoredRecord): string {
  return `${JSON.stringify(record)}\n`;
}

/** @returns undefined for anything that `encodeRecord` does not write, such as a line that was cut off */
export function decodeRecord(line: string): StoredRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  return isRecord(value) ? value : undefined;
}

function isRecord(value: unknown): value is StoredRecord {
  if (!isObject(value)) return false;
  const { id, derivation, name, system, client, times, replays, inputs, log, text } = value;
  return (
    Number.isSafeInteger(id) &&
    [derivation, name, system].every((text) => typeof text === 'string') &&
    isObject(client) &&
    isObject(times) &&
    typeof times['asked'] === 'number' &&
    !Number.isNaN(new Date(times['asked']).getTime()) &&
    Array.isArray(replays) &&
    isObject(inputs) &&
    isObject(log) &&
    typeof log['storedBytes'] === 'number' &&
    (text === undefined || typeof text === 'string')
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
