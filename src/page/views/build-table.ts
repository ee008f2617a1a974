import type { BuildReport } from '../../control/api.js';
import { durationOf } from '../../control/describe.js';
import { humanDuration } from '../../lib/human.js';
import { ago, badge, buildLink, guestLink, nameCell, usageCells } from '../format.js';
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
  const duration = durationOf(build);
  return html`<tr>
    <td>${buildLink(build.id)}</td>
    ${nameCell(build.name)}
    <td>${badge(build)}</td>
    <td class="spare">${guestLink(build.guest)}</td>
    <td class="number">${duration === undefined ? '–' : humanDuration(duration)}</td>
    ${usageCells(build)}
    <td class="number">${ago(build.times.asked, now)}</td>
  </tr>`;
}
