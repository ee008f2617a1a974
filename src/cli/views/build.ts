import { stripVTControlCharacters } from 'node:util';

import type { BuildReport } from '../../control/api.js';
import { durationOf, resultOf, waitingOf } from '../../control/describe.js';
import { count, humanBytes, humanDuration } from '../../lib/human.js';
import { printable } from '../../lib/printable.js';
import { coloured, type Screen } from '../screen.js';
import { fit, table, wrap, type Column } from '../table.js';

const COLUMNS: readonly Column[] = [
  { title: 'BUILD', spare: 0 },
  { title: 'NAME', spare: 0, min: 8 },
  { title: 'RESULT', spare: 1, min: 6 },
  { title: 'GUEST', spare: 5 },
  { title: 'AGO', spare: 3, right: true },
  { title: 'TIME', spare: 2, right: true },
  { title: 'CPU', spare: 4, right: true },
  { title: 'MEMORY', spare: 4, right: true },
];

/** `drover history` for people. */
export function renderHistory(builds: readonly BuildReport[], now: number, { columns }: Screen): string {
  if (builds.length === 0) return 'no builds\n';
  const rows = builds.map((build) => {
    const { times, usage } = build;
    return [
      build.id,
      printable(build.name),
      resultOf(build),
      printable(build.guest ?? '-'),
      humanDuration(now - times.asked).split(' ')[0] ?? '',
      durationOf(build) === undefined ? '-' : humanDuration(durationOf(build) ?? 0),
      usage === null ? '-' : humanDuration(usage.cpuSeconds * 1000),
      usage === null || usage.peakMemoryBytes === null ? '-' : humanBytes(usage.peakMemoryBytes),
    ];
  });
  return `${table(COLUMNS, rows, columns).join('\n')}\n`;
}

/** `drover show` for people: everything that is known of a build. */
export function renderBuild(build: BuildReport, now: number, screen: Screen): string {
  const { times, inputs, usage, client, log } = build;
  const ok = build.succeeded === true ? 'green' : build.succeeded === false ? 'red' : 'yellow';
  const fields: [string, string | undefined][] = [
    ['derivation', build.derivation],
    ['client', `${client.name} (${client.domain}, ${client.door} door)`],
    ['guest', build.guest === null ? undefined : `${build.guest}, image ${build.generation ?? '?'}`],
    ['asked', `${new Date(times.asked).toISOString()}, ${humanDuration(now - times.asked)} ago`],
    ['steps', stepsOf(build)],
    ['waiting', build.waiting === null ? undefined : waitingOf(build.waiting)],
    ['phase', build.phase ?? undefined],
    ['expected', build.expectedMs === null ? undefined : `${humanDuration(build.expectedMs)} in the builder`],
    [
      'inputs',
      `${count(inputs.shared, 'path')} shared (${humanBytes(inputs.sharedBytes)}), ${inputs.copied} copied (${humanBytes(inputs.copiedBytes)})`,
    ],
    [
      'outputs',
      build.relayedBytes === 0 ? undefined : `${humanBytes(build.relayedBytes)} sent to the client`,
    ],
    [
      'processor',
      usage === null
        ? 'not measured'
        : `${humanDuration(usage.cpuSeconds * 1000)} (${sourceOf(usage.source)})`,
    ],
    [
      'memory',
      usage === null || usage.peakMemoryBytes === null
        ? undefined
        : `${humanBytes(usage.peakMemoryBytes)} at its peak`,
    ],
    [
      'disk',
      usage === null || usage.readBytes === null
        ? undefined
        : `${humanBytes(usage.readBytes)} read, ${humanBytes(usage.writtenBytes ?? 0)} written`,
    ],
    [
      'replays',
      build.replays.length === 0
        ? undefined
        : build.replays.map(({ guest, reason }) => `${guest}: ${reason}`).join('\n'),
    ],
    [
      'log',
      `${count(log.lines, 'line')}, ${humanBytes(log.bytes)}${log.storedBytes === 0 ? '' : ` (${humanBytes(log.storedBytes)} on disk)`}; drover logs ${build.id}`,
    ],
    ['error', build.error ?? undefined],
  ];
  const result = resultOf(build);
  const name = `${build.id}  ${printable(build.name)}  ${printable(build.system)}`;
  const room = screen.columns - result.length - 2;
  const head = room < LEAST_NAME ? `${fit(name, screen.columns)}\n` : `${fit(name, room)}  `;
  const told = coloured(fit(result, screen.columns), ok, screen);
  const lines = fields.flatMap(([key, value]) =>
    value === undefined ? [] : field(key, value, screen.columns),
  );
  return `${head}${told}\n${lines.join('\n')}\n`;
}

const KEY_WIDTH = 12;
/** Characters of id and name that are worth showing beside the result. */
const LEAST_NAME = 8;

/** A key and its value, which may be hostile and of several lines. */
function field(key: string, value: string, columns: number): string[] {
  const lines = wrap(printable(stripVTControlCharacters(value), '\n'), Math.max(8, columns - KEY_WIDTH));
  return lines.map((line, index) => `${(index === 0 ? key : '').padEnd(KEY_WIDTH)}${line}`.trimEnd());
}

function stepsOf({ times }: BuildReport): string {
  const steps = (['leased', 'provisioned', 'started', 'ended', 'fetched'] as const).flatMap((step) => {
    const at = times[step];
    return at === null ? [] : [`${step} +${humanDuration(at - times.asked)}`];
  });
  return steps.join(', ') || 'none yet';
}

function sourceOf(source: 'cgroup' | 'proc'): string {
  return source === 'cgroup' ? 'from its control group' : 'sampled from /proc';
}
