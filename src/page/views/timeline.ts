import type { BuildReport } from '../../control/api.js';
import { resultOf } from '../../control/describe.js';
import { count, humanDuration } from '../../lib/human.js';
import { guestLink, toneOf } from '../format.js';
import { html, type Html } from '../html.js';

const MINUTE_MS = 60_000;
export const HOUR_MS = 60 * MINUTE_MS;
/** The shortest of these that has every build of the last hour is shown. */
const SPANS_MS = [2, 4, 12, 20, 60].map((minutes) => minutes * MINUTE_MS);
/** Guests that are shown, the newest of those that there were. */
const MAX_GUESTS = 16;
const LANE_HEIGHT = 20;
/** Part of the width in percent from which a bar has room for a name, and the least that can be seen. */
const NAMED_PERCENT = 7;
const LEAST_PERCENT = 0.35;

interface Bar {
  readonly build: BuildReport;
  readonly start: number;
  readonly end: number;
}

/** Builds of the last hour as bars, a row for each guest. */
export function timeline(builds: readonly BuildReport[], now: number): Html {
  const bars = builds.flatMap((build): Bar[] => barOf(build, now)).sort((a, b) => a.start - b.start);
  if (bars.length === 0) {
    return html`<h2>Last hour</h2>
      <p class="empty">No builds in the last hour.</p>`;
  }
  const earliest = now - (bars[0]?.start ?? now);
  const spanMs = SPANS_MS.find((span) => span >= Math.min(earliest, HOUR_MS)) ?? HOUR_MS;
  const byGuest = new Map<string, Bar[]>();
  for (const bar of bars) {
    const guest = bar.build.guest ?? '';
    byGuest.set(guest, [...(byGuest.get(guest) ?? []), bar]);
  }
  const guests = [...byGuest].sort(([a], [b]) => Number(a.slice(1)) - Number(b.slice(1)));
  const shown = guests.slice(-MAX_GUESTS);
  const left = guests.length - shown.length;
  const scale = (time: number): number => Math.min(1, Math.max(0, 1 - (now - time) / spanMs)) * 100;
  return html`<h2>
      Last hour
      <small
        >${count(bars.length, 'build')}${spanMs < HOUR_MS ? `, all in the last ${spanOf(spanMs)}` : ''}</small
      >
    </h2>
    <div class="timeline">${shown.map(([guest, own]) => row(guest, own, scale))} ${axis(spanMs)}</div>
    ${left > 0 ? html`<p class="note">${count(left, 'earlier guest')} not shown.</p>` : null}`;
}

function barOf(build: BuildReport, now: number): Bar[] {
  const { leased, ended } = build.times;
  const end = ended ?? now;
  return leased === null || build.guest === null || end < now - HOUR_MS
    ? []
    : [{ build, start: leased, end }];
}

function row(guest: string, bars: readonly Bar[], scale: (time: number) => number): Html {
  const lanes = lanesOf(bars);
  const height = lanes.length * LANE_HEIGHT;
  return html`<div class="row">
    ${guestLink(guest)}
    <svg height="${height}" role="group" aria-label="${`Builds of ${guest}: ${bars.length}`}">
      ${[25, 50, 75].map((at) => html`<line class="grid" x1="${at}%" x2="${at}%" y2="100%" />`)}
      ${lanes.flatMap((lane, index) => lane.map((bar) => barShape(bar, index, scale)))}
    </svg>
  </div>`;
}

/** Bars of one lane do not overlap. */
function lanesOf(bars: readonly Bar[]): Bar[][] {
  const lanes: Bar[][] = [];
  for (const bar of bars) {
    const free = lanes.find((lane) => (lane.at(-1)?.end ?? 0) <= bar.start);
    if (free === undefined) lanes.push([bar]);
    else free.push(bar);
  }
  return lanes;
}

function barShape({ build, start, end }: Bar, lane: number, scale: (time: number) => number): Html {
  const from = Math.min(scale(start), 100 - LEAST_PERCENT);
  const width = Math.max(scale(end) - from, LEAST_PERCENT);
  const about = `${build.id} ${build.name}: ${resultOf(build)}, ${humanDuration(end - start)}`;
  return html`<a href="/builds/${build.id}" tabindex="-1">
    <svg
      class="bar ${toneOf(build)}"
      x="${from.toFixed(2)}%"
      width="${width.toFixed(2)}%"
      y="${lane * LANE_HEIGHT + 2}"
      height="${LANE_HEIGHT - 4}"
    >
      <title>${about}</title>
      <rect width="100%" height="100%" rx="3" />
      ${width >= NAMED_PERCENT ? html`<text x="6" y="12">${build.name}</text>` : null}
    </svg>
  </a>`;
}

function axis(spanMs: number): Html {
  const ticks = [0, 1, 2, 3].map((quarter) => [quarter * 25, spanOf((spanMs * (4 - quarter)) / 4)] as const);
  return html`<div class="row axis" aria-hidden="true">
    <span></span>
    <svg height="18">
      ${ticks.map(([at, text]) => html`<text x="${at}%" y="13" ${at === 0 ? '' : html`text-anchor="middle"`}>−${text}</text>`)}
      <text x="100%" y="13" text-anchor="end">now</text>
    </svg>
  </div>`;
}

function spanOf(ms: number): string {
  return ms < MINUTE_MS ? `${ms / 1000} s` : `${ms / MINUTE_MS} min`;
}
