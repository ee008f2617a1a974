import type { Status } from '../../control/api.js';
import { count, humanBytes, humanDuration } from '../../lib/human.js';
import { printable } from '../../lib/printable.js';
import { coloured, type Screen } from '../screen.js';
import { wrap } from '../table.js';
import { renderTop } from './top.js';

/** `drover status` for people. */
export function renderStatus(status: Status, now: number, screen: Screen): string[] {
  const { version, pid, driver, nixVersion, systems, maxGuests, maxJobs, doors, page, sessions, totals } =
    status;
  const up = humanDuration(now - Date.parse(status.startedAt));
  const about = [
    `drover ${version} (pid ${pid}), up ${up}: ${driver} guests with Nix ${nixVersion}`,
    `builds ${systems.join(', ')}; at most ${count(maxGuests, 'guest')} and ${count(maxJobs, 'job')}`,
    `doors: ${doors.socket}${doors.ssh === null ? '' : `, ssh ${doors.ssh}`}`,
    ...(page === null ? [] : [`page: ${page}`]),
  ];
  const sums = [
    `${count(sessions, 'session')}; since the start ${count(totals.guestsBooted, 'guest')} booted and ${count(totals.builds, 'build')} ended (${totals.failedBuilds} failed, ${totals.replayedBuilds} replayed)`,
    `inputs: ${count(totals.sharedPaths, 'path')} shared (${humanBytes(totals.sharedBytes)}), ${totals.copiedPaths} copied (${humanBytes(totals.copiedBytes)})`,
  ];
  const lines = (texts: readonly string[]): string[] =>
    texts.flatMap((text) => wrap(printable(text), screen.columns));
  return [
    ...lines(about),
    ...lines(troubles(status)).map((line) => coloured(line, 'yellow', screen)),
    '',
    ...renderTop(status, now, screen),
    ...(status.guests.length === 0 ? lines(['no guests: the next build boots one']) : []),
    ...lines(held(status)),
    '',
    ...lines(sums),
  ];
}

/** Guests that stay for people. */
function held({ guests, programs }: Status): string[] {
  return [
    ...guests.flatMap(({ id, shells, keptBuilds }) => [
      ...(shells > 0 ? [`${id} has ${count(shells, 'open shell')}`] : []),
      ...keptBuilds.map((build) => `${id} keeps the failed build ${build}: drover shell ${build}`),
    ]),
    ...programs.map(({ id, program }) => `${id} is the guest of drover run ${program}`),
  ];
}

/** Warnings and failures. */
function troubles({ warnings, failedBoots, reloadError, restartKeys, rollout }: Status): string[] {
  return [
    ...warnings.map((warning) => `warning: ${warning}`),
    ...(failedBoots === null
      ? []
      : [`${count(failedBoots.count, 'boot')} failed, last: ${failedBoots.last.split('\n', 1)[0] ?? ''}`]),
    ...(reloadError === null ? [] : [`the last reload failed (${reloadError.at}): ${reloadError.reason}`]),
    ...(restartKeys.length === 0 ? [] : [`a restart is needed for: ${restartKeys.join(', ')}`]),
    ...(rollout === null ? [] : [rolloutLine(rollout)]),
  ];
}

function rolloutLine({ state, error }: NonNullable<Status['rollout']>): string {
  if (state === 'trying') return 'the first guest of the new configuration is being tried';
  const why = error?.split('\n', 1)[0] ?? '';
  return `guests of the new configuration failed their trial, the old ones continue: ${why}`;
}
