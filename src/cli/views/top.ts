import type { RunningBuildReport, Status } from '../../control/api.js';
import { derivationName, waitingOf } from '../../control/describe.js';
import { count, humanBytes, humanDuration } from '../../lib/human.js';
import { printable } from '../../lib/printable.js';
import { coloured, type Screen } from '../screen.js';
import { fit, table, wrap, type Column } from '../table.js';

const GUESTS: readonly Column[] = [
  { title: 'GUEST', spare: 0 },
  { title: 'STATE', spare: 0, min: 6 },
  { title: 'BUILDS', spare: 1, right: true },
  { title: 'SERVED', spare: 2, right: true },
  { title: 'UP', spare: 3, right: true },
  { title: 'SCRATCH', spare: 3, right: true },
  { title: 'MEMORY', spare: 4, right: true },
  { title: 'CLIENT', spare: 4, min: 8 },
];

const RUNNING: readonly Column[] = [
  { title: 'BUILD', spare: 0 },
  { title: 'NAME', spare: 0, min: 8 },
  { title: 'GUEST', spare: 2 },
  { title: 'PHASE', spare: 3, min: 6 },
  { title: 'TIME', spare: 0, right: true },
  { title: 'LEFT', spare: 1, right: true },
  { title: 'CPU', spare: 4, right: true },
  { title: 'MEMORY', spare: 4, right: true },
];

/** One picture of `drover top`. */
export function renderTop(status: Status, now: number, screen: Screen): string[] {
  const { columns } = screen;
  const { guests, programs, maxGuests, state } = status;
  const running = status.builds.filter(({ guest }) => guest !== null);
  const waiting = status.builds.filter(({ guest }) => guest === null);
  const beside = programs.length === 0 ? '' : `, ${count(programs.length, 'program')}`;
  const counts = `${guests.length} of ${count(maxGuests, 'guest')}, ${count(running.length, 'build')}, ${waiting.length} waiting${beside}`;
  const title = fit(`drover ${state}: ${counts}`, columns);
  const bold = (lines: readonly string[]): string[] =>
    lines.map((line, index) => (index === 0 ? coloured(line, 'bold', screen) : line));
  return [
    coloured(title, state === 'running' ? 'green' : 'yellow', screen),
    ...(guests.length + programs.length === 0
      ? []
      : ['', ...bold(table(GUESTS, guestRows(status, now), columns))]),
    ...(running.length === 0 ? [] : ['', ...bold(table(RUNNING, running.map(buildRow), columns))]),
    ...(waiting.length === 0 ? [] : ['', ...waiting.flatMap((build) => waitingLines(build, columns))]),
  ];
}

function guestRows({ guests, programs, jobsPerGuest }: Status, now: number): string[][] {
  const ofBuilds = guests.map((guest) => [
    guest.id,
    guest.asleep ? `${guest.state}, asleep` : guest.state,
    `${guest.leases}/${jobsPerGuest}`,
    String(guest.builds),
    humanDuration(now - Date.parse(guest.bootedAt ?? guest.startedAt)),
    partOf(guest.scratch),
    partOf(guest.memory),
    printable(guest.domain ?? '-'),
  ]);
  const ofPrograms = programs.map((guest) => [
    guest.id,
    guest.bootedAt === null ? 'booting' : 'program',
    '-',
    '-',
    humanDuration(now - Date.parse(guest.bootedAt ?? guest.startedAt)),
    partOf(guest.scratch),
    partOf(guest.memory),
    printable(guest.program),
  ]);
  return [...ofBuilds, ...ofPrograms];
}

function partOf(known: Status['guests'][number]['scratch']): string {
  if (known === null || known.totalBytes === 0) return '-';
  return `${Math.round((known.usedBytes / known.totalBytes) * 100)} % of ${humanBytes(known.totalBytes)}`;
}

function buildRow(build: RunningBuildReport): string[] {
  const { id, derivation, guest, phase, runningSeconds, seconds, usage } = build;
  return [
    id,
    derivationName(derivation),
    guest ?? '',
    printable(phase ?? (runningSeconds === null ? 'starting' : 'building')),
    humanDuration(seconds * 1000),
    leftOf(build),
    usage === null ? '-' : humanDuration(usage.cpuSeconds * 1000),
    usage === null || usage.peakMemoryBytes === null ? '-' : humanBytes(usage.peakMemoryBytes),
  ];
}

/** Time left, by the last builds of the name. */
function leftOf({ expectedSeconds, runningSeconds }: RunningBuildReport): string {
  if (expectedSeconds === null) return '-';
  const left = expectedSeconds - (runningSeconds ?? 0);
  return left >= 0 ? humanDuration(left * 1000) : `+${humanDuration(-left * 1000)}`;
}

function waitingLines({ id, derivation, seconds, waiting }: RunningBuildReport, columns: number): string[] {
  const why = waiting === null ? 'asking the host for its inputs' : waitingOf(waiting);
  const text = `${id} ${derivationName(derivation)} has waited ${humanDuration(seconds * 1000)}: ${why}`;
  return wrap(text, columns - 2).map((line, index) => (index === 0 ? line : `  ${line}`));
}
