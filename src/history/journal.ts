import type { BuildEntry, BuildFacts, BuildJournal, BuildOutcome } from '../front/journal.js';
import type { UsageSample } from '../guest/agent.js';
import type { Provisioned } from '../guest/provision.js';
import type { Clock } from '../lib/clock.js';
import { formatBuildId } from '../lib/human.js';
import type { BuildHistory } from './history.js';
import type { BuildRecord, BuildTimes } from './record.js';

/** A store path's directory, and the hash in front of the name. */
const BEFORE_NAME = /^.*\/[0-9a-z]{32}-/;

/** Keeps what the front tells of builds in the history. */
export class HistoryJournal implements BuildJournal {
  readonly #history: BuildHistory;
  readonly #clock: Clock;

  constructor(history: BuildHistory, clock: Clock) {
    this.#history = history;
    this.#clock = clock;
  }

  begin({ derivation, system, client: { door, domain, name } }: BuildFacts): BuildEntry {
    const id = this.#history.begin({
      derivation,
      name: derivation.replace(BEFORE_NAME, '').replace(/\.drv$/, ''),
      system,
      client: { door, domain, name },
    });
    return new HistoryEntry(id, this.#history, this.#clock);
  }
}

class HistoryEntry implements BuildEntry {
  readonly id: string;
  readonly #id: number;
  readonly #history: BuildHistory;
  readonly #clock: Clock;
  #ended = false;
  #succeeded = false;

  constructor(id: number, history: BuildHistory, clock: Clock) {
    this.id = formatBuildId(id);
    this.#id = id;
    this.#history = history;
    this.#clock = clock;
  }

  leased(guest: string, generation: string): void {
    if (this.#ended) {
      this.#builtAgain(guest, generation);
      return;
    }
    this.#history.update(this.#id, ({ times }) => ({ guest, generation, times: this.#now(times, 'leased') }));
  }

  /** The guest was lost before the client had fetched the outputs. */
  #builtAgain(guest: string, generation: string): void {
    const at = this.#clock.wallNow();
    void this.#history.amend(this.#id, (record) => ({
      ...{ guest, generation },
      replays: [
        ...record.replays,
        { guest: record.guest ?? '', reason: 'lost before the client had the outputs', at },
      ],
    }));
  }

  provisioned({ sharedPaths, sharedBytes, copiedPaths, copiedBytes }: Provisioned): void {
    this.#history.update(this.#id, ({ inputs, times }) => ({
      inputs: {
        shared: inputs.shared + sharedPaths,
        sharedBytes: inputs.sharedBytes + sharedBytes,
        copied: inputs.copied + copiedPaths,
        copiedBytes: inputs.copiedBytes + copiedBytes,
      },
      times: this.#now(times, 'provisioned'),
    }));
  }

  started(): void {
    this.#history.update(this.#id, ({ times }) => ({ times: this.#now(times, 'started') }));
  }

  used({ source, cpuSeconds, memoryBytes, readBytes, writtenBytes }: UsageSample): void {
    this.#history.update(this.#id, ({ usage }) => ({
      usage: {
        source,
        // Processes that end without being waited for take their share with them.
        cpuSeconds: Math.max(usage?.cpuSeconds ?? 0, cpuSeconds),
        peakMemoryBytes: Math.max(usage?.peakMemoryBytes ?? 0, memoryBytes),
        readBytes: Math.max(usage?.readBytes ?? 0, readBytes),
        writtenBytes: Math.max(usage?.writtenBytes ?? 0, writtenBytes),
      },
    }));
  }

  addLog(text: string, isEnd?: boolean): Promise<void> | undefined {
    return this.#history.addLine(this.#id, text, isEnd);
  }

  replayed(guest: string, reason: string): void {
    const at = this.#clock.wallNow();
    this.#history.update(this.#id, ({ replays, times }) => ({
      guest: null,
      usage: null,
      replays: [...replays, { guest, reason, at }],
      times: { ...times, leased: null, provisioned: null, started: null },
    }));
  }

  ended({ result, succeeded, error, cpuMicros }: BuildOutcome): void {
    this.#ended = true;
    this.#succeeded = succeeded;
    if (cpuMicros !== null) {
      this.#history.update(this.#id, ({ usage }) => ({
        usage: {
          ...(usage ?? { peakMemoryBytes: null, readBytes: null, writtenBytes: null }),
          source: 'cgroup',
          cpuSeconds: cpuMicros / 1e6,
        },
      }));
    }
    void this.#history.finish(this.#id, { result, succeeded, error });
  }

  left(relayedBytes: number): void {
    // After a failure the client gets no more than the error.
    if (relayedBytes === 0 || !this.#succeeded) return;
    void this.#history.amend(this.#id, ({ times }) => ({
      relayedBytes,
      times: this.#now(times, 'fetched'),
    }));
  }

  #now(times: BuildRecord['times'], step: keyof BuildTimes): BuildTimes {
    return { ...times, [step]: this.#clock.wallNow() };
  }
}
