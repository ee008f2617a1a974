import type { BuildReport, RunningBuildReport, Status } from '../../control/api.js';
import { waitingOf } from '../../control/describe.js';
import { count, humanDuration } from '../../lib/human.js';
import { buildLink, guestLink, meter, nameCell, usageCells } from '../format.js';
import { html, type Html } from '../html.js';
import type { Picture } from '../live.js';
import { buildTable } from './build-table.js';
import { guestCards } from './guests.js';
import { HOUR_MS, timeline } from './timeline.js';

/** Rows of a list of builds that go on, and of the newest ones. */
const MAX_ROWS = 100;
const RECENT_ROWS = 8;
/** Characters of a warning that need no fold. */
const LONG_TROUBLE = 160;

export interface Overview {
  readonly status: Status;
  /** Builds of the last hour and before, the newest first; undefined where no history is kept. */
  readonly builds: readonly BuildReport[] | undefined;
  readonly now: number;
}

/** Everything at one moment. */
export function overview({ status, builds, now }: Overview): Picture {
  const running = status.builds.filter(({ guest }) => guest !== null);
  const waiting = status.builds.filter(({ guest }) => guest === null);
  const noHistory = html`<h2>Builds that ended</h2>
    <p class="empty">No history is kept (<code>history: null</code> in the configuration).</p>`;
  return {
    title: running.length === 0 ? 'Drover' : `${running.length} building – Drover`,
    state: status.builds.length + status.guests.length + status.programs.length > 0 ? 'moving' : 'still',
    sections: new Map([
      ['troubles', troubles(status)],
      ['figures', figures(status, running.length, waiting.length, builds, now)],
      ['timeline', builds === undefined ? html`` : timeline(builds, now)],
      ['running', runningTable(running)],
      ['waiting', waitingTable(waiting)],
      ['guests', guestCards(status, now)],
      ['recent', builds === undefined ? noHistory : recent(builds, now)],
    ]),
  };
}

function troubles({ warnings, failedBoots, reloadError, restartKeys, rollout, state }: Status): Html {
  const firstLine = (text: string): string => text.split('\n', 1)[0] ?? '';
  const texts = [
    ...(state === 'running' ? [] : [`Drover is ${state}: it starts no builds.`]),
    ...(failedBoots === null
      ? []
      : [`${count(failedBoots.count, 'boot')} failed. The last: ${firstLine(failedBoots.last)}`]),
    ...(reloadError === null ? [] : [`The configuration was rejected: ${firstLine(reloadError.reason)}`]),
    ...(restartKeys.length === 0 ? [] : [`A restart is needed for: ${restartKeys.join(', ')}`]),
    ...(rollout?.state === 'trying' ? ['The first guest of a new configuration is being tried.'] : []),
    ...(rollout !== null && rollout.state !== 'trying'
      ? [`Guests of the new configuration failed their trial: ${firstLine(rollout.error ?? '')}`]
      : []),
    ...warnings,
  ];
  return texts.length === 0
    ? html``
    : html`<ul class="troubles">
        ${texts.map((text) => html`<li>${trouble(text)}</li>`)}
      </ul>`;
}

/** A long text is folded behind its beginning. */
function trouble(text: string): Html {
  const end = text.indexOf(': ');
  if (text.length <= LONG_TROUBLE || end < 0) return html`${text}`;
  return html`<details>
    <summary>${text.slice(0, end)}</summary>
    ${text.slice(end + 2)}
  </details>`;
}

function figures(
  { leases, maxGuests, jobsPerGuest, guests }: Status,
  running: number,
  waiting: number,
  builds: readonly BuildReport[] | undefined,
  now: number,
): Html {
  const ended = builds?.filter(({ times }) => (times.ended ?? 0) >= now - HOUR_MS) ?? [];
  const failed = ended.filter(({ succeeded }) => succeeded !== true).length;
  const capacity = maxGuests * jobsPerGuest;
  return html`<dl class="figures">
    ${figure('Building', running, `${leases} of ${count(capacity, 'slot')} in use`, running > 0 ? 'runs' : '')}
    ${figure('Waiting', waiting, waiting === 0 ? 'none in the queue' : 'for a guest', waiting > 0 ? 'waits' : '')}
    ${figure('Guests', guests.length, `of at most ${maxGuests}`, '')}
    ${
      builds === undefined
        ? null
        : figure(
            'Last hour',
            ended.length,
            failed === 0 ? 'none failed' : `${failed} failed`,
            failed > 0 ? 'bad' : '',
          )
    }
  </dl>`;
}

function figure(title: string, value: number, note: string, tone: string): Html {
  return html`<div class="figure ${tone}">
    <dt>${title}</dt>
    <dd><b>${value}</b> <span>${note}</span></dd>
  </div>`;
}

function runningTable(builds: readonly RunningBuildReport[]): Html {
  if (builds.length === 0) return html``;
  return html`<h2>Building</h2>
    <table>
      <thead>
        <tr>
          <th>Build</th>
          <th>Name</th>
          <th class="spare">Guest</th>
          <th class="spare">Phase</th>
          <th class="progress">Progress</th>
          <th class="number">Time</th>
          <th class="number spare">CPU</th>
          <th class="number spare">Memory</th>
        </tr>
      </thead>
      <tbody>
        ${builds.slice(0, MAX_ROWS).map(runningRow)}
      </tbody>
    </table>
    ${more(builds.length)}`;
}

function runningRow(build: RunningBuildReport): Html {
  const { id, derivation, guest, phase, seconds, runningSeconds } = build;
  return html`<tr>
    <td>${buildLink(id)}</td>
    ${nameCell(derivation)}
    <td class="spare">${guestLink(guest)}</td>
    <td class="spare phase">${phase ?? (runningSeconds === null ? 'starting' : 'building')}</td>
    <td class="progress">${progress(build)}</td>
    <td class="number">${humanDuration(seconds * 1000)}</td>
    ${usageCells(build)}
  </tr>`;
}

/** Time that builds of the name have taken, as far as it has passed. */
function progress({ expectedSeconds, runningSeconds }: RunningBuildReport): Html {
  if (expectedSeconds === null || expectedSeconds === 0)
    return html`<span class="muted">first of its name</span>`;
  const passed = runningSeconds ?? 0;
  const left = expectedSeconds - passed;
  const label =
    left >= 0 ? `about ${humanDuration(left * 1000)} left` : `${humanDuration(-left * 1000)} over`;
  return html`${meter(passed / expectedSeconds, label, left >= 0 ? '' : 'late')}
    <span class="muted">${label}</span>`;
}

function waitingTable(builds: readonly RunningBuildReport[]): Html {
  if (builds.length === 0) return html``;
  return html`<h2>Waiting</h2>
    <table>
      <thead>
        <tr>
          <th>Build</th>
          <th>Name</th>
          <th>Reason</th>
          <th class="number">Time</th>
        </tr>
      </thead>
      <tbody>
        ${builds.slice(0, MAX_ROWS).map(
          ({ id, derivation, seconds, waiting }) =>
            html`<tr>
              <td>${buildLink(id)}</td>
              ${nameCell(derivation)}
              <td>${waiting === null ? 'asking the host for its inputs' : waitingOf(waiting)}</td>
              <td class="number">${humanDuration(seconds * 1000)}</td>
            </tr>`,
        )}
      </tbody>
    </table>
    ${more(builds.length)}`;
}

function more(all: number): Html | null {
  return all > MAX_ROWS ? html`<p class="note">… and ${all - MAX_ROWS} more.</p>` : null;
}

function recent(builds: readonly BuildReport[], now: number): Html {
  const ended = builds.filter(({ result }) => result !== null).slice(0, RECENT_ROWS);
  if (ended.length === 0) {
    return html`<h2>Builds that ended</h2>
      <p class="empty">None yet. Builds appear here when they have ended.</p>`;
  }
  return html`<h2>
      Builds that ended <small><a href="/history">all of them</a></small>
    </h2>
    ${buildTable(ended, now)}`;
}
