import type { BuildReport } from '../../control/api.js';
import { durationOf } from '../../control/describe.js';
import { humanBytes, humanDuration } from '../../lib/human.js';
import { ago, badge, buildLink, guestLink, nameCell } from '../format.js';
import { html, type Html } from '../html.js';

/** Builds of the history, one in each row. */
export function buildTable(builds: readonly BuildReport[], now: number): Html {
  return html`<table>
    <thead>
      <tr>
        <th>Build</th>
        <th>Name</th>
        <th>Result</th>
        <th class="spare">Guest</th>
        <th class="number">Time</th>
        <th class="number spare">CPU</th>
        <th class="number spare">Memory</th>
        <th class="number">Asked</th>
      </tr>
    </thead>
    <tbody>
      ${builds.map((build) => buildRow(build, now))}
    </tbody>
  </table>`;
}

function buildRow(build: BuildReport, now: number): Html {
  const { usage, times } = build;
  const duration = durationOf(build);
  const memory = usage?.peakMemoryBytes ?? undefined;
  return html`<tr>
    <td>${buildLink(build.id)}</td>
    ${nameCell(build.name)}
    <td>${badge(build)}</td>
    <td class="spare">${guestLink(build.guest)}</td>
    <td class="number">${duration === undefined ? '–' : humanDuration(duration)}</td>
    <td class="number spare">${usage === null ? '–' : humanDuration(usage.cpuSeconds * 1000)}</td>
    <td class="number spare">${memory === undefined ? '–' : humanBytes(memory)}</td>
    <td class="number">${ago(times.asked, now)}</td>
  </tr>`;
}
