import type { UsageSample } from '../guest/agent.js';
import type { Provisioned } from '../guest/provision.js';
import { formatBuildId } from '../lib/human.js';
import type { BuildEnd } from './events.js';
import type { ClientIdentity } from './identity.js';

/** A build as it was asked for. Everything in it that the client has chosen is hostile text. */
export interface BuildFacts {
  /** The derivation's store path. */
  readonly derivation: string;
  readonly system: string;
  readonly client: ClientIdentity;
}

/** How a build ended. */
export interface BuildOutcome {
  readonly result: BuildEnd;
  readonly succeeded: boolean;
  readonly error: string | null;
  /** Processor time of the build, if the guest's Nix has measured it. */
  readonly cpuMicros: number | null;
}

/** Gives every build its id, and records what becomes of it. Nothing here fails a build. */
export interface BuildJournal {
  begin(facts: BuildFacts): BuildEntry;
}

/** The record of one build. Steps come in this order; after `replayed`, from `leased` on again. */
export interface BuildEntry {
  /** Id that people see: `b1842`. */
  readonly id: string;
  /** @param generation of the guest's image */
  leased(guest: string, generation: string): void;
  /** The inputs are valid in the guest, and the request goes to its daemon. */
  provisioned(inputs: Provisioned): void;
  /** The guest's Nix has started the builder. */
  started(): void;
  /** Resources that the build has used so far in this guest. */
  used(sample: UsageSample): void;
  /**
   * @param text a line, or a part of one
   * @param isEnd false if more of the line follows
   * @returns a promise to wait for before more is added, if the disk is behind
   */
  addLog(text: string, isEnd?: boolean): Promise<void> | undefined;
  /** The guest was lost, and the build is started again in another one. */
  replayed(guest: string, reason: string): void;
  ended(outcome: BuildOutcome): void;
  /** The client has left, or goes on to another build. @param relayedBytes sent to it since the end of this build */
  left(relayedBytes: number): void;
}

/** Numbers builds from 1, and records nothing. */
export class CountingJournal implements BuildJournal {
  #count = 0;

  begin(): BuildEntry {
    return {
      id: formatBuildId(++this.#count),
      leased: () => undefined,
      provisioned: () => undefined,
      started: () => undefined,
      used: () => undefined,
      addLog: () => undefined,
      replayed: () => undefined,
      ended: () => undefined,
      left: () => undefined,
    };
  }
}
