import type { BuildReport, Status } from '../../control/api.js';
import { count, humanDuration } from '../../lib/human.js';
import { html, type Html } from '../html.js';
import type { Picture } from '../live.js';
import { buildTable } from './build-table.js';
import { programState, slots, usage } from './guests.js';

/** Builds of one guest that are listed. */
const MAX_BUILDS = 30;

/** One guest, without its console. @param builds the newest, of all guests */
export function guestPicture(
  id: string,
  status: Status,
  builds: readonly BuildReport[] | undefined,
  now: number,
): Picture {
  const guest = status.guests.find((each) => each.id === id);
  const program = status.programs.find((each) => each.id === id);
  // Ids of guests begin at g1 with each start of the supervisor.
  const since = Date.parse((guest ?? program)?.startedAt ?? '1970-01-01');
  const own = (builds ?? [])
    .filter(({ guest: where, times }) => where === id && (times.leased ?? times.asked) >= since)
    .slice(0, MAX_BUILDS);
  return {
    title: `${id} – Drover`,
    state: guest === undefined && program === undefined ? 'ended' : 'moving',
    sections: new Map([
      [
        'head',
        guest !== undefined
          ? runningHead(guest, status.jobsPerGuest, now)
          : program === undefined
            ? endedHead(id)
            : programHead(program, now),
      ],
      [
        'builds',
        html`<h2>Builds <small>${own.length === 0 ? 'none' : count(own.length, 'build')}</small></h2>
          ${own.length === 0 ? null : buildTable(own, now)}`,
      ],
    ]),
  };
}

function endedHead(id: string): Html {
  return html`<h1><span class="id">${id}</span> <span class="badge">ended</span></h1>`;
}

function programHead(guest: Status['programs'][number], now: number): Html {
  const { id, driver, program, startedAt, bootedAt } = guest;
  const booted = bootedAt === null ? undefined : Date.parse(bootedAt);
  return html`<h1><span class="id">${id}</span> ${programState(guest)}</h1>
    <dl class="pairs facts">
      <dt>driver</dt>
      <dd>${driver}</dd>
      <dt>runs</dt>
      <dd>${program}</dd>
      <dt>boot</dt>
      <dd>${booted === undefined ? 'goes on' : humanDuration(booted - Date.parse(startedAt))}</dd>
      <dt>up</dt>
      <dd>${booted === undefined ? '–' : humanDuration(now - booted)}</dd>
      ${usage('scratch', guest.scratch)} ${usage('memory', guest.memory)}
    </dl>`;
}

function runningHead(guest: Status['guests'][number], jobsPerGuest: number, now: number): Html {
  const { id, state, asleep, driver, domain, leases, builds, startedAt, bootedAt, sharedPaths } = guest;
  const booted = bootedAt === null ? undefined : Date.parse(bootedAt);
  return html`<h1>
      <span class="id">${id}</span>
      <span class="state ${state}">${asleep ? `${state}, asleep` : state}</span>
      ${slots(leases, jobsPerGuest)}
    </h1>
    <dl class="pairs facts">
      <dt>driver</dt>
      <dd>${driver}</dd>
      <dt>client</dt>
      <dd>${domain ?? 'none yet'}</dd>
      <dt>boot</dt>
      <dd>${booted === undefined ? 'goes on' : humanDuration(booted - Date.parse(startedAt))}</dd>
      <dt>up</dt>
      <dd>${booted === undefined ? '–' : humanDuration(now - booted)}</dd>
      <dt>served</dt>
      <dd>${count(builds, 'build')}</dd>
      <dt>store</dt>
      <dd>${count(sharedPaths, 'path')} shared</dd>
      ${usage('scratch', guest.scratch)} ${usage('memory', guest.memory)}
    </dl>`;
}
