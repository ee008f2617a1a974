import type { BuildReport } from '../control/api.js';
import { derivationName, resultOf } from '../control/describe.js';
import { humanBytes, humanDuration } from '../lib/human.js';
import { html, type Html } from './html.js';

/** Time since a moment, for people; the moment itself in the tooltip. */
export function ago(at: number, now: number): Html {
  const iso = new Date(at).toISOString();
  const seconds = Math.max(0, Math.round((now - at) / 1000));
  const [first = ''] = seconds < 10 ? [`${seconds}s`] : humanDuration(seconds * 1000).split(' ');
  return html`<time datetime="${iso}" title="${iso}">${first} ago</time>`;
}

/** A class of the style sheet for how a build stands. */
export function toneOf({ result, succeeded, guest, waiting }: BuildReport): string {
  if (result === null) return guest === null || waiting !== null ? 'waits' : 'runs';
  return succeeded === true ? 'good' : 'bad';
}

export function badge(build: BuildReport): Html {
  return html`<span class="badge ${toneOf(build)}">${resultOf(build)}</span>`;
}

/** A link to a build's page. The id is Drover's own. */
export function buildLink(id: string): Html {
  return html`<a class="id" href="/builds/${id}">${id}</a>`;
}

export function guestLink(id: string | null): Html {
  return id === null ? html`–` : html`<a class="id" href="/guests/${id}">${id}</a>`;
}

/** A derivation's name, which may be as long as a file's. */
export function nameCell(derivation: string): Html {
  return html`<td class="name">${derivationName(derivation)}</td>`;
}

/** Two cells of a table with the processor time and memory of a build; small screens leave them out. */
export function usageCells({ usage }: Pick<BuildReport, 'usage'>): Html {
  const memory = usage?.peakMemoryBytes ?? undefined;
  return html`<td class="number spare">${usage === null ? '–' : humanDuration(usage.cpuSeconds * 1000)}</td>
    <td class="number spare">${memory === undefined ? '–' : humanBytes(memory)}</td>`;
}

/** A bar that is filled from the left. @param part 0 to 1 */
export function meter(part: number, label: string, tone = ''): Html {
  const width = (Math.min(1, Math.max(0, part)) * 100).toFixed(1);
  return html`<svg class="meter ${tone}" role="img" aria-label="${label}">
    <title>${label}</title>
    <rect class="track" width="100%" height="100%" rx="3" />
    <rect class="fill" width="${width}%" height="100%" rx="3" />
  </svg>`;
}
