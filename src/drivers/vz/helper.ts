import type { Emitter } from '../../lib/emitter.js';
import type { HelperConfiguration, HelperEvent, HelperFacts, MachineState } from './helper-protocol.js';

/** A vz-helper that runs: one process, at most one guest. Calls after its end reject with `VZ_HELPER_ENDED`. */
export interface VzHelper {
  /** What the helper tells unasked. `stopped` or `crashed` comes before `exited` settles. */
  readonly events: Emitter<HelperEvent>;
  /** Settles, never rejects, when the process is gone, and its guest with it: how it ended, for people. */
  readonly exited: Promise<string>;
  /** What `hello` said, which has been asked before anything else. */
  readonly facts: HelperFacts;
  /** @throws DroverError `VZ_HELPER_REFUSED`, with the key that is wrong */
  configure(config: HelperConfiguration): Promise<MachineState>;
  start(): Promise<MachineState>;
  pause(): Promise<MachineState>;
  resume(): Promise<MachineState>;
  /** Asks the guest to power off; it may never do it. */
  requestStop(): Promise<MachineState>;
  /** Pulls the guest's plug. */
  stop(): Promise<MachineState>;
  /** Ends its stdin, at which it ends, and waits for that; kills it if it does not. */
  close(): Promise<void>;
  /** Ends it at once, and waits for that. */
  kill(): Promise<void>;
}

export interface HelperOptions {
  /** The vz-helper. */
  readonly program: string;
  /** util-linux's, where there is one: see `startChild`. */
  readonly setpriv: string | undefined;
  /** Ends the helper, whenever that comes. */
  readonly signal?: AbortSignal;
}
