import type { BuildReport } from '../../control/api.js';
import { durationOf, resultOf } from '../../control/describe.js';
import { humanBytes, humanDuration } from '../../lib/human.js';
import { printable } from '../../lib/printable.js';
import { differences, type Derivation } from '../derivation.js';
import type { Screen } from '../screen.js';
import { fit, table, wrap, type Column } from '../table.js';

/** Differences of one kind that are listed. */
const MAX_LISTED = 10;

export interface Comparison {
  /** Facts of both builds, in pairs. */
  readonly facts: readonly { readonly fact: string; readonly values: readonly [string, string] }[];
  /** Differences between the derivations, as far as this host has them. */
  readonly derivations: 'same' | 'not on this host' | readonly string[];
}

/** Differences between two builds: target, inputs, place, duration of each step, and resources. */
export function compare(
  builds: readonly [BuildReport, BuildReport],
  derivations: readonly [Derivation | undefined, Derivation | undefined],
): Comparison {
  const pair = (fact: string, of: (build: BuildReport) => string | undefined) => ({
    fact,
    values: [of(builds[0]) ?? '-', of(builds[1]) ?? '-'] as const,
  });
  const step = (from: keyof BuildReport['times'], to: keyof BuildReport['times']) => (build: BuildReport) => {
    const [start, end] = [build.times[from], build.times[to]];
    return start === null || end === null ? undefined : humanDuration(end - start);
  };
  const [one, other] = derivations;
  const same = builds[0].derivation === builds[1].derivation;
  const known = one !== undefined && other !== undefined;
  return {
    facts: [
      pair('name', ({ name }) => name),
      pair('system', ({ system }) => system),
      pair('client', ({ client }) => client.name),
      pair('guest', ({ guest }) => guest ?? undefined),
      pair('image', ({ generation }) => generation?.slice(0, 12)),
      pair('result', resultOf),
      pair('replays', ({ replays }) => String(replays.length)),
      pair('waited', step('asked', 'leased')),
      pair('provisioned', step('leased', 'provisioned')),
      pair('built', step('started', 'ended')),
      pair('fetched', step('ended', 'fetched')),
      pair('in all', (build) => {
        const ms = durationOf(build);
        return ms === undefined ? undefined : humanDuration(ms);
      }),
      pair('shared', ({ inputs }) => `${inputs.shared} (${humanBytes(inputs.sharedBytes)})`),
      pair('copied', ({ inputs }) => `${inputs.copied} (${humanBytes(inputs.copiedBytes)})`),
      pair('outputs', ({ relayedBytes }) => humanBytes(relayedBytes)),
      pair('processor', ({ usage }) => (usage === null ? undefined : humanDuration(usage.cpuSeconds * 1000))),
      pair('memory', ({ usage }) =>
        usage === null || usage.peakMemoryBytes === null ? undefined : humanBytes(usage.peakMemoryBytes),
      ),
      pair('log lines', ({ log }) => String(log.lines)),
    ],
    derivations: same ? 'same' : known ? differences(one, other) : 'not on this host',
  };
}

const COLUMNS = (ids: readonly [string, string]): readonly Column[] => [
  { title: '', spare: 0, min: 6 },
  { title: ids[0], spare: 0, min: 5 },
  { title: ids[1], spare: 0, min: 5 },
];

/** Rows that differ are marked. */
export function renderComparison(
  { facts, derivations }: Comparison,
  ids: readonly [string, string],
  { columns }: Screen,
): string {
  const rows = facts.map(({ fact, values: [one, other] }) => [
    `${one === other ? ' ' : '*'} ${fact}`,
    printable(one),
    printable(other),
  ]);
  return `${[...table(COLUMNS(ids), rows, columns), '', ...told(derivations, columns)].join('\n')}\n`;
}

function told(derivations: Comparison['derivations'], columns: number): string[] {
  if (derivations === 'same')
    return wrap('Both built the same derivation: the inputs are the same.', columns);
  if (derivations === 'not on this host') {
    return wrap(
      'The derivations differ. This host does not have both of them, so inputs cannot be compared.',
      columns,
    );
  }
  const lines = derivations.slice(0, MAX_LISTED).map((line) => fit(`  ${printable(line)}`, columns));
  const more = derivations.length - lines.length;
  const rest = more > 0 ? [fit(`  and ${more} more; see --json`, columns)] : [];
  return [...wrap('The derivations differ in:', columns), ...lines, ...rest];
}
