import type { Status } from '../control/api.js';
import { humanBytes } from '../lib/human.js';

/** `drover status` for people. */
export function renderStatus(status: Status): string {
  const { totals } = status;
  const lines = [
    `drover ${status.version} (pid ${status.pid}, ${status.state}): ${status.driver} guests with Nix ${status.nixVersion}, up to ${status.maxGuests} with ${status.maxJobs} jobs in all`,
    `builds ${status.systems.join(', ')}`,
    ...status.warnings.map((warning) => `warning: ${warning}`),
    `doors: ${status.doors.socket}${status.doors.ssh === null ? '' : `, ssh ${status.doors.ssh}`}`,
    '',
    ...table([
      ['GUEST', 'STATE', 'LEASES', 'BUILDS', 'BOOTED', 'IDLE'],
      ...status.guests.map((guest) => [
        guest.id,
        guest.asleep ? `${guest.state}, asleep` : guest.state,
        String(guest.leases),
        String(guest.builds),
        guest.bootedAt ?? '-',
        `${guest.idleSeconds} s`,
      ]),
    ]),
    ...(status.guests.length === 0 ? ['(no guests: the next build boots one)'] : []),
    '',
    ...status.builds.map(
      ({ derivation, guest, phase, seconds, door }) =>
        `${guest ?? 'waiting'}: ${derivation} (${phase ?? 'starting'}, ${seconds} s, ${door} door)`,
    ),
    `${status.sessions} sessions, ${status.waiting} waiting for a lease`,
    `since ${status.startedAt}: ${totals.builds} builds (${totals.failedBuilds} failed, ${totals.replayedBuilds} replayed), ${totals.guestsBooted} guests booted`,
    `inputs: ${totals.sharedPaths} paths shared (${humanBytes(totals.sharedBytes)}), ${totals.copiedPaths} copied (${humanBytes(totals.copiedBytes)})`,
  ];
  return `${lines.join('\n')}\n`;
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
