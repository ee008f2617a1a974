import type { Config } from '../config/schema.js';
import type { Status } from '../control/api.js';
import type { GuestDriver } from '../guest/driver.js';
import type { run } from '../lib/process.js';

/** Result of one check. `fix` says what to do, and stands with every warning and failure. */
export interface Finding {
  readonly status: 'ok' | 'warning' | 'failure' | 'skipped';
  /** The facts that the check has seen: one line. */
  readonly seen: string;
  readonly fix?: string;
  /** Performs `fix`. Only for repairs that lose nothing and are expected. */
  readonly repair?: () => Promise<void>;
}

/** Input of checks. They change nothing, so they can run beside a supervisor, or without one. */
export interface DoctorContext {
  readonly config: Config;
  /** The running supervisor's; undefined if none answers. */
  readonly status: Status | undefined;
  readonly env: NodeJS.ProcessEnv;
  readonly platform: NodeJS.Platform;
  readonly uid: number;
  readonly home: string;
  readonly storeDir: string;
  /** Program that `nix.buildMachines` names for the socket door. */
  readonly connectProgram: string;
  /** Line of Nix's machines file for the socket door. */
  readonly socketMachine: (systems: readonly string[]) => string;
  readonly run: typeof run;
  /** Makes the configured driver with a state directory of its own, so that nothing of the real one is touched. */
  readonly createDriver: (config: Config) => Promise<GuestDriver>;
}

export interface Check {
  /** Stable, for scripts. */
  readonly id: string;
  readonly title: string;
  run(context: DoctorContext): Promise<Finding>;
}

export const ok = (seen: string): Finding => ({ status: 'ok', seen });
export const skipped = (seen: string): Finding => ({ status: 'skipped', seen });
export const warning = (seen: string, fix: string): Finding => ({ status: 'warning', seen, fix });
export const failure = (seen: string, fix: string): Finding => ({ status: 'failure', seen, fix });
