import { existsSync, watch } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { Drover } from './contenders/drover.js';
import type { Host } from './host.js';
import type { Kernel } from './options.js';
import { until, type Timing } from './process.js';

/** Phases of a cold start, in order; each lasts until the next one begins. */
export const PHASES = [
  'client to lease',
  'to the first process',
  'its start-up',
  'ssh, hello, clock',
  'to the first log line',
] as const;
type Phase = (typeof PHASES)[number];

export interface ColdStart {
  /** Milliseconds, from the start of the client. */
  readonly firstLogMs: number;
  readonly totalMs: number;
  /** Milliseconds. Namespace guests have no console that reports their start. */
  readonly phases: Partial<Readonly<Record<Phase, number>>>;
}

export interface Boots {
  /** Which of the guests' kernels. */
  readonly kernel: Kernel;
  readonly starts: readonly ColdStart[];
  /** Output of the clients whose builds failed. */
  readonly failures: readonly string[];
}

/** A supervisor whose guests end at once when they are idle. */
export interface Cold {
  readonly kernel: Kernel;
  readonly drover: Drover;
}

/** Starts guests from zero, one after the other, each for one small build through the socket door; in turns. */
export async function measureBoots(host: Host, colds: readonly Cold[], count: number): Promise<Boots[]> {
  const measured = colds.map(({ kernel, drover }) => ({
    ...{ kernel, drover, consoles: new Consoles(join(drover.stateDir, 'logs')) },
    ...{ starts: [] as ColdStart[], failures: [] as string[] },
  }));
  for (let done = 0; done < count; done++) {
    for (const { kernel, drover, consoles, starts, failures } of measured) {
      const derivation = await host.instantiate('hello');
      await until(async () => (await drover.guests()) === 0);
      const logged = drover.log.length;
      await consoles.begin();
      const beganAt = Date.now();
      try {
        const timing = await drover.socket.build(derivation);
        const times = { beganAt, ...timesInLog(drover.log.slice(logged)), ...(await consoles.end()) };
        starts.push({ ...timing, phases: phasesOf(times, timing) });
      } catch (error) {
        failures.push(error instanceof Error ? error.message : String(error));
      }
      process.stderr.write(
        `cold start ${done + 1} of ${count}, ${kernel}: ${starts.at(-1)?.firstLogMs.toFixed(0) ?? '-'} ms\n`,
      );
    }
  }
  return measured.map(({ kernel, starts, failures }) => ({ kernel, starts, failures }));
}

/** Moments by this host's clock, in milliseconds. */
interface Times {
  readonly beganAt: number;
  readonly bootingAt?: number | undefined;
  readonly kernelAt?: number | undefined;
  readonly upAt?: number | undefined;
  readonly readyAt?: number | undefined;
}

function timesInLog(log: string): Pick<Times, 'bootingAt' | 'readyAt'> {
  const lines = log
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as { readonly msg: string; readonly time: string | number });
  const at = (message: string): number | undefined => {
    const time = lines.find(({ msg }) => msg === message)?.time;
    return time === undefined ? undefined : new Date(time).getTime();
  };
  return { bootingAt: at('booting guest'), readyAt: at('guest booted') };
}

function phasesOf(times: Times, { firstLogMs }: Timing): ColdStart['phases'] {
  const marks = [
    times.beganAt,
    times.bootingAt,
    times.kernelAt,
    times.upAt,
    times.readyAt,
    times.beganAt + firstLogMs,
  ];
  return Object.fromEntries(
    PHASES.flatMap((phase, index) => {
      const [from, to] = [marks[index], marks[index + 1]];
      return from === undefined || to === undefined ? [] : [[phase, Math.max(0, to - from)]];
    }),
  );
}

/** Moments of a Debian guest's console messages, to within some milliseconds: the log itself has no times. */
class Consoles {
  readonly #directory: string;
  #known: ReadonlySet<string> = new Set();
  #seen: Promise<Pick<Times, 'kernelAt' | 'upAt'>> = Promise.resolve({});
  #stop = new AbortController();

  constructor(directory: string) {
    this.#directory = directory;
  }

  async begin(): Promise<void> {
    this.#stop = new AbortController();
    this.#known = new Set(existsSync(this.#directory) ? await readdir(this.#directory) : []);
    this.#seen = this.#follow(this.#stop.signal);
  }

  async end(): Promise<Pick<Times, 'kernelAt' | 'upAt'>> {
    this.#stop.abort();
    return await this.#seen;
  }

  async #follow(signal: AbortSignal): Promise<Pick<Times, 'kernelAt' | 'upAt'>> {
    if (!existsSync(this.#directory)) return {};
    const times: { kernelAt?: number; upAt?: number } = {};
    const changed = new Promise<void>((resolve) => {
      const watcher = watch(this.#directory, { signal }, (_, file) => {
        if (file === null || this.#known.has(file)) return;
        const now = Date.now();
        void readFile(join(this.#directory, file), 'utf8').then(
          (text) => {
            if (text.includes('drover: kernel is up')) times.kernelAt ??= now;
            if (text.includes('drover: guest is up')) times.upAt ??= now;
          },
          () => undefined, // removed: its guest has ended
        );
      });
      watcher.once('close', resolve);
    });
    await changed;
    return times;
  }
}
