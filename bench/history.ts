import type { Verdict } from './bars.js';
import { Drover, type DroverOptions } from './contenders/drover.js';
import type { Host } from './host.js';
import { runAsSupervisor } from './process.js';
import { medianOf } from './samples.js';

/** Configurations of the history that are compared, as YAML. */
const HISTORIES = { off: 'null', 'without logs': '{ logs: none }', 'with logs': '{ logs: all }' } as const;
type HistoryKind = keyof typeof HISTORIES;
const KINDS = Object.keys(HISTORIES) as HistoryKind[];

/** Added to the whole by the history, at most. */
const MAX_RATIO = 1.03;
const MAX_BUILD_MS = 1;

export interface HistoryRound {
  /** Time of the client, in milliseconds. */
  readonly totalMs: number;
  /** Processor time of the supervisor for each build, in milliseconds. */
  readonly buildCpuMs: number;
}

export interface HistorySamples {
  readonly rounds: Readonly<Record<HistoryKind, readonly HistoryRound[]>>;
  /** Processor time of a build's record and log by themselves, in milliseconds. */
  readonly costMs: number;
}

/**
 * Builds many small derivations with a supervisor for each kind of history, in turns. What a build costs the supervisor
 * differs by more from graph to graph than the history adds, so that is measured by itself.
 */
export async function measureHistory(
  host: Host,
  packageDir: string,
  common: Omit<DroverOptions, 'name' | 'idleTimeout' | 'history'>,
  { rounds, leaves }: { readonly rounds: number; readonly leaves: number },
): Promise<HistorySamples> {
  const samples: Record<HistoryKind, HistoryRound[]> = { off: [], 'without logs': [], 'with logs': [] };
  const drovers = new Map<HistoryKind, Drover>();
  for (const [index, kind] of KINDS.entries()) {
    const own = { name: `history-${index}`, idleTimeout: '1h', history: HISTORIES[kind] };
    const drover = await Drover.start(host, { ...common, ...own });
    drovers.set(kind, drover);
    await drover.socket.build(await host.instantiate('graph', { leaves: '8' }));
  }
  for (let round = 0; round < rounds; round++) {
    process.stderr.write(`history: round ${round + 1} of ${rounds}\n`);
    for (let turn = 0; turn < KINDS.length; turn++) {
      const kind = KINDS[(round + turn) % KINDS.length] ?? 'off';
      const drover = drovers.get(kind);
      if (drover === undefined) continue;
      const derivation = await host.instantiate('graph', { leaves: String(leaves) });
      const before = await drover.cpuMs();
      const { totalMs } = await drover.socket.build(derivation);
      samples[kind].push({ totalMs, buildCpuMs: ((await drover.cpuMs()) - before) / (leaves + 1) });
    }
  }
  for (const drover of drovers.values()) await drover.stop();
  const costMs = Number(runAsSupervisor(packageDir, new URL('history-cost.js', import.meta.url)));
  return { rounds: samples, costMs };
}

export function historyRows({ rounds }: HistorySamples): string[][] {
  return [
    ['history', 'graph', 'supervisor, a build'],
    ...KINDS.map((kind) => [
      kind,
      `${medianIn(rounds[kind], 'totalMs').toFixed(0)} ms`,
      `${medianIn(rounds[kind], 'buildCpuMs').toFixed(2)} ms`,
    ]),
  ];
}

/** The ratio is that within each round, so that a slow one does not decide. */
export function historyVerdicts({ rounds, costMs }: HistorySamples): Verdict[] {
  const ratios = rounds['with logs'].flatMap((on, round) => {
    const off = rounds.off[round];
    return off === undefined ? [] : [on.totalMs / off.totalMs];
  });
  const ratio = medianOf(ratios) ?? NaN;
  return [
    {
      bar: `history with logs: a graph takes at most ${MAX_RATIO} × the time without`,
      measured: `${ratio.toFixed(3)} ×`,
      met: ratio <= MAX_RATIO,
    },
    {
      bar: `history with logs: at most ${MAX_BUILD_MS} ms of the supervisor for a build`,
      measured: `${costMs.toFixed(2)} ms`,
      met: costMs <= MAX_BUILD_MS,
    },
  ];
}

function medianIn(rounds: readonly HistoryRound[], key: keyof HistoryRound): number {
  return medianOf(rounds.map((round) => round[key])) ?? NaN;
}
