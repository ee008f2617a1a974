import type { Provisioned } from '../guest/provision.js';
import type { WaitPlace } from '../pool/lease.js';
import { BUILD_STATUSES } from '../protocol/build-result.js';

export type DoorName = 'socket' | 'ssh';

/** How a build ended: its status in Nix's words, or what became of it where it has none. */
export const BUILD_ENDS = [...BUILD_STATUSES, 'Lost', 'Cancelled', 'Error'] as const;
export type BuildEnd = (typeof BUILD_ENDS)[number];

/** Why a build is started again in another guest. */
export const REPLAY_CAUSES = ['lost', 'full'] as const;
export type ReplayCause = (typeof REPLAY_CAUSES)[number];

/** An event of the front, emitted after it has happened. */
export type FrontEvent =
  | { readonly type: 'session-opened'; readonly door: DoorName }
  | {
      readonly type: 'session-closed';
      readonly door: DoorName;
      readonly error: string | undefined;
      readonly receivedBytes: number;
      readonly sentBytes: number;
    }
  | ({ readonly type: 'provisioned'; readonly guest: string; readonly durationMs: number } & Provisioned)
  /** A lease was found, and the guest is being made ready for it; again after a replay. */
  | {
      readonly type: 'build-started';
      /** Id of the build: `b1842`. */
      readonly build: string;
      readonly derivation: string;
      readonly guest: string;
    }
  /**
   * `result` is the build's status in Nix's words, or `Lost`, `Cancelled` or `Error` if there was none. `succeeded`
   * says that the outputs are there now.
   */
  | {
      readonly type: 'build-finished';
      readonly build: string;
      readonly derivation: string;
      readonly guest: string | null;
      readonly system: string;
      readonly result: BuildEnd;
      readonly succeeded: boolean;
      /** Processor time of the build in its last guest; null where it was not measured. */
      readonly cpuSeconds: number | null;
      /** Part of the duration in which the build had no guest. */
      readonly waitedMs: number;
      readonly durationMs: number;
    }
  /** A client asked for what it may not have. Once for each operation of a session. */
  | {
      readonly type: 'operation-refused';
      readonly session: number;
      readonly domain: string;
      /** As in Nix: `AddSignatures`. */
      readonly operation: string;
      readonly reason: string;
    }
  /** An untrusted client sent settings that it may not override. They were not passed on. */
  | {
      readonly type: 'settings-refused';
      readonly session: number;
      readonly domain: string;
      /** Printable names. */
      readonly settings: readonly string[];
    }
  /** `full`: other builds had filled the guest's scratch. */
  | { readonly type: 'build-replayed'; readonly guest: string; readonly cause: ReplayCause }
  | { readonly type: 'log-line' };

/** A build that a session has asked for, as `status` shows it. */
export interface BuildSnapshot {
  /** `b1842` */
  readonly id: string;
  readonly session: number;
  readonly door: DoorName;
  /** The derivation's store path. */
  readonly derivation: string;
  readonly system: string;
  /** Where it runs; null while it waits. */
  readonly guest: string | null;
  /** While it waits: the number of sessions that are served before it, and why it waits. */
  readonly waiting: WaitPlace | null;
  /** Current phase of the build, such as `buildPhase`. */
  readonly phase: string | null;
  readonly seconds: number;
}
