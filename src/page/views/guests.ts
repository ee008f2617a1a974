import type { Status } from '../../control/api.js';
import { count, humanBytes, humanDuration } from '../../lib/human.js';
import { guestLink, meter } from '../format.js';
import { html, type Html } from '../html.js';

/** More job slots than these are a number instead of squares. */
const MAX_SQUARES = 16;

type Guest = Status['guests'][number];

/** Guests as cards. */
export function guestCards({ guests, programs, maxGuests, jobsPerGuest }: Status, now: number): Html {
  const title = html`<h2>Guests <small>${guests.length} of ${maxGuests}</small></h2>`;
  if (guests.length + programs.length === 0) {
    return html`${title}
      <p class="empty">No guest runs. The next build boots one.</p>`;
  }
  return html`${title}
    <ul class="cards">
      ${guests.map((guest) => card(guest, jobsPerGuest, now))}
      ${programs.map((guest) => programCard(guest, now))}
    </ul>`;
}

function card(guest: Guest, jobsPerGuest: number, now: number): Html {
  const { id, state, asleep, leases, builds, domain, bootedAt, startedAt } = guest;
  const up = humanDuration(now - Date.parse(bootedAt ?? startedAt));
  return html`<li class="card">
    <div class="card-head">
      ${guestLink(id)} <span class="state ${state}">${asleep ? `${state}, asleep` : state}</span>
      ${slots(leases, jobsPerGuest)}
    </div>
    <dl class="pairs">
      <dt>${bootedAt === null ? 'booting' : 'up'}</dt>
      <dd>${up}</dd>
      <dt>served</dt>
      <dd>${count(builds, 'build')}</dd>
      <dt>client</dt>
      <dd>${domain ?? 'none yet'}</dd>
      ${usage('scratch', guest.scratch)} ${usage('memory', guest.memory)}
    </dl>
  </li>`;
}

function programCard(guest: Status['programs'][number], now: number): Html {
  const { id, bootedAt, startedAt, program } = guest;
  return html`<li class="card">
    <div class="card-head">${guestLink(id)} ${programState(guest)}</div>
    <dl class="pairs">
      <dt>${bootedAt === null ? 'booting' : 'up'}</dt>
      <dd>${humanDuration(now - Date.parse(bootedAt ?? startedAt))}</dd>
      <dt>runs</dt>
      <dd>${program}</dd>
      ${usage('scratch', guest.scratch)} ${usage('memory', guest.memory)}
    </dl>
  </li>`;
}

export function programState({ bootedAt }: Status['programs'][number]): Html {
  return bootedAt === null
    ? html`<span class="state booting">booting</span>`
    : html`<span class="state leased">drover run</span>`;
}

/** The part of something that a guest uses, as far as it is known. */
export function usage(what: string, known: Guest['scratch']): Html | null {
  if (known === null || known.totalBytes === 0) return null;
  const part = known.usedBytes / known.totalBytes;
  const label = `${humanBytes(known.usedBytes)} of ${humanBytes(known.totalBytes)}`;
  return html`<dt>${what}</dt>
    <dd>${meter(part, label, part > 0.85 ? 'bad' : '')} <span class="nowrap">${label}</span></dd>`;
}

/** Job slots as squares, those in use filled. */
export function slots(used: number, all: number): Html {
  const label = `${used} of ${count(all, 'slot')} in use`;
  if (all > MAX_SQUARES) return html`<span class="slots">${used}/${all}</span>`;
  const squares = Array.from(
    { length: all },
    (_, index) =>
      html`<rect
        class="${index < used ? 'used' : 'free'}"
        x="${index * 14 + 0.5}"
        y="0.5"
        width="10"
        height="10"
        rx="2"
      />`,
  );
  return html`<svg class="slots" width="${all * 14 - 3}" height="11" role="img" aria-label="${label}">
    <title>${label}</title>
    ${squares}
  </svg>`;
}
