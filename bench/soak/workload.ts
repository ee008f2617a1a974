import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import type { Host } from '../host.js';

/** Builds that go on at the same time, at most. */
const MAX_RUNNING = 4;
/** Number of leaves of a build of the kind `joins`, which are builds, too. */
const LEAVES = 3;
/** A client that leaves does so after this time, in milliseconds. */
const LEAVES_AFTER_MS = 1_500;
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

/** How a client is expected to end. */
type Kind = 'works' | 'fails' | 'leaves';

export interface WorkloadOptions {
  readonly host: Host;
  /** Environment of the clients. */
  readonly env: NodeJS.ProcessEnv;
  /** Clients that start in a second. */
  readonly rate: number;
}

/** Builds at a steady rate, of small and large logs and outputs, failures, and clients that leave. */
export class Workload {
  readonly #options: WorkloadOptions;
  readonly #running = new Set<Promise<void>>();
  #derivations: string[] = [];
  #builds = 0;
  /** Clients that did not end as expected: what they printed. */
  readonly surprises: string[] = [];

  constructor(options: WorkloadOptions) {
    this.#options = options;
  }

  /** Builds that have ended. */
  get builds(): number {
    return this.#builds;
  }

  /** Starts clients until the signal aborts, and waits for the last of them. */
  async run(signal: AbortSignal): Promise<void> {
    const { host, rate } = this.#options;
    while (!signal.aborted) {
      const next = sleep(1000 / rate);
      if (this.#running.size >= MAX_RUNNING) await Promise.race(this.#running);
      if (this.#derivations.length === 0) this.#derivations = await host.instantiateAll('soak');
      const derivation = this.#derivations.shift();
      if (derivation !== undefined) this.#start(derivation);
      await next;
    }
    await Promise.all(this.#running);
  }

  #start(derivation: string): void {
    const client = this.#build(derivation).finally(() => this.#running.delete(client));
    this.#running.add(client);
  }

  async #build(derivation: string): Promise<void> {
    const { host, env } = this.#options;
    const kind = kindOf(derivation);
    const said = await new Promise<{ failed: boolean; output: string }>((resolve) => {
      const client = execFile(
        join(host.nix, 'nix-store'),
        ['--realise', derivation],
        { env, maxBuffer: MAX_OUTPUT_BYTES, ...(kind === 'leaves' ? { timeout: LEAVES_AFTER_MS } : {}) },
        (error, _, output) => {
          process.off('exit', kill);
          resolve({ failed: error !== null, output });
        },
      );
      const kill = (): void => void client.kill();
      process.once('exit', kill);
    });
    this.#builds += derivation.includes('-joins') ? 1 + LEAVES : 1;
    if (said.failed !== (kind !== 'works'))
      this.surprises.push(`${derivation}:\n${said.output.slice(-2000)}`);
  }
}

function kindOf(derivation: string): Kind {
  if (derivation.includes('-fails')) return 'fails';
  return derivation.includes('-hangs') ? 'leaves' : 'works';
}
