import { stripVTControlCharacters } from 'node:util';

import type { BuildReport } from '../../control/api.js';
import { durationOf, resultOf, waitingOf } from '../../control/describe.js';
import { count, humanBytes, humanDuration } from '../../lib/human.js';
import { ago, badge, guestLink } from '../format.js';
import { html, type Html } from '../html.js';
import type { Picture } from '../live.js';

/** Time after the end of a build in which its client may still fetch its outputs, in milliseconds. */
const FETCH_MS = 10_000;

/** One build, without its log. */
export function buildPicture(build: BuildReport, now: number): Picture {
  const { ended, fetched } = build.times;
  const isOver = ended !== null && (fetched !== null || build.succeeded !== true || now - ended > FETCH_MS);
  return {
    title: `${build.id} ${build.name}: ${resultOf(build)} – Drover`,
    state: isOver ? 'ended' : 'moving',
    sections: new Map([
      ['head', head(build, now)],
      ['error', problem(build)],
      ['steps', steps(build, now)],
      ['facts', facts(build)],
    ]),
  };
}

function head(build: BuildReport, now: number): Html {
  const duration = durationOf(build) ?? now - build.times.asked;
  return html`<h1>
      <span class="id">${build.id}</span> <span class="name">${build.name}</span> ${badge(build)}
    </h1>
    <p class="muted">
      ${build.system}, asked ${ago(build.times.asked, now)}, ${build.times.ended === null ? 'so far' : 'took'}
      ${humanDuration(duration)}${build.phase === null ? null : html`, in <b>${build.phase}</b>`}
    </p>
    ${build.waiting === null ? null : html`<p class="troubles">Waits: ${waitingOf(build.waiting)}</p>`}`;
}

/** The error, and guests in which the build was lost. */
function problem({ error, replays }: BuildReport): Html {
  return html`${error === null ? null : html`<pre class="error">${stripVTControlCharacters(error)}</pre>`}
  ${replays.map(({ guest, reason }) => html`<p class="note">Started again after ${guest}: ${reason}</p>`)}`;
}

const STEPS = [
  ['wait', 'waiting for a guest', 'asked', 'leased'],
  ['provision', 'providing inputs', 'leased', 'provisioned'],
  ['start', 'starting', 'provisioned', 'started'],
  ['build', 'building', 'started', 'ended'],
  ['fetch', 'fetching outputs', 'ended', 'fetched'],
] as const;

/** Time of each step, as parts of one bar. */
function steps({ times, succeeded }: BuildReport, now: number): Html {
  const known = STEPS.flatMap(([key, text, from, to]) => {
    const start = times[from];
    // The step that goes on lasts until now; a build that ended before a step never had it.
    const goesOn = times.ended === null && from !== 'ended';
    const isLast = key === 'build' || times[to] !== null;
    const end = times[to] ?? (goesOn ? now : isLast || from === 'ended' ? null : times.ended);
    if (start === null || end === null || (key === 'fetch' && succeeded !== true)) return [];
    return [{ key, text, start, ms: Math.max(0, end - start) }];
  });
  const whole = Math.max(
    1,
    known.reduce((sum, { ms }) => sum + ms, 0),
  );
  let at = 0;
  const bars = known.map(({ key, text, ms }) => {
    const width = (ms / whole) * 100;
    const bar = html`<rect
      class="step ${key}"
      x="${at.toFixed(2)}%"
      width="${width.toFixed(2)}%"
      height="100%"
    >
      <title>${`${text}: ${humanDuration(ms)}`}</title>
    </rect>`;
    at += width;
    return bar;
  });
  return html`<h2>Steps</h2>
    <svg class="steps" role="img" aria-label="Time of each step">${bars}</svg>
    <ul class="legend">
      ${known.map(({ key, text, ms }) => html`<li class="step ${key}">${text} <b>${humanDuration(ms)}</b></li>`)}
    </ul>`;
}

function facts(build: BuildReport): Html {
  const { client, guest, generation, inputs, usage, expectedMs, relayedBytes } = build;
  const bytes = (value: number | null | undefined): string =>
    value === null || value === undefined ? '–' : humanBytes(value);
  return html`<h2>Resources</h2>
    <dl class="figures">
      ${resource('Processor', usage === null ? '–' : humanDuration(usage.cpuSeconds * 1000), sourceOf(usage))}
      ${resource('Peak memory', bytes(usage?.peakMemoryBytes), '')}
      ${resource('Read', bytes(usage?.readBytes), '')} ${resource('Written', bytes(usage?.writtenBytes), '')}
    </dl>
    <h2>Facts</h2>
    <dl class="pairs facts">
      <dt>guest</dt>
      <dd>${guestLink(guest)}${generation === null ? null : `, image ${generation}`}</dd>
      <dt>client</dt>
      <dd>${client.name} (${client.domain}, ${client.door} door)</dd>
      <dt>inputs</dt>
      <dd>
        ${count(inputs.shared, 'path')} shared (${humanBytes(inputs.sharedBytes)}), ${inputs.copied} copied
        (${humanBytes(inputs.copiedBytes)})
      </dd>
      <dt>outputs</dt>
      <dd>${relayedBytes === 0 ? 'none sent' : `${humanBytes(relayedBytes)} sent to the client`}</dd>
      <dt>expected</dt>
      <dd>${expectedMs === null ? 'first of its name' : `${humanDuration(expectedMs)} in the builder`}</dd>
      <dt>derivation</dt>
      <dd><code>${build.derivation}</code></dd>
    </dl>`;
}

function resource(title: string, value: string, note: string): Html {
  return html`<div class="figure">
    <dt>${title}</dt>
    <dd><b>${value}</b> <span>${note}</span></dd>
  </div>`;
}

function sourceOf(usage: BuildReport['usage']): string {
  if (usage === null) return 'not measured: under a second, or not in this guest';
  return usage.source === 'cgroup' ? 'from its control group' : 'sampled from /proc';
}
