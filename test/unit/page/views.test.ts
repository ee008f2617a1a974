import { expect, test } from '@jest/globals';

import type { RunningBuildReport, Status } from '../../../src/control/api.js';
import { buildPicture } from '../../../src/page/views/build.js';
import { guestPicture } from '../../../src/page/views/guest.js';
import { history, searchOf } from '../../../src/page/views/history.js';
import { overview } from '../../../src/page/views/overview.js';
import { timeline } from '../../../src/page/views/timeline.js';
import { HOSTILE, reportOf, statusWith } from '../../support/page.js';

const NOW = Date.UTC(2026, 0, 1, 12);
const MINUTE_MS = 60_000;

const WAITING: RunningBuildReport = {
  ...{ id: 'b9', session: 1, door: 'socket', derivation: `/nix/store/${'0'.repeat(32)}-${HOSTILE}.drv` },
  ...{ system: 'x86_64-linux', guest: null, waiting: { before: 2, reason: '2 of 2 guests are full' } },
  ...{ phase: null, seconds: 12, runningSeconds: null, expectedSeconds: null, usage: null },
};

function markupOf(sections: ReadonlyMap<string, { readonly markup: string }>): string {
  return [...sections.values()].map(({ markup }) => markup).join('\n');
}

test('the overview says why builds wait, and escapes names', () => {
  const status = statusWith({ builds: [WAITING], warnings: [HOSTILE] });
  const { sections, state } = overview({ status, builds: [reportOf(NOW, { name: HOSTILE })], now: NOW });
  expect(sections.get('waiting')?.markup).toContain('2 of 2 guests are full; 2 before it');
  expect(markupOf(sections)).not.toMatch(/<script|\u001b|\u202e/);
  expect(state).toBe('moving');
});

test('the overview and a page of its own show the guest of a program', () => {
  const program = {
    ...{ id: 'g8', driver: 'namespace', program: HOSTILE, startedAt: '2026-01-01T11:59:00Z', bootedAt: null },
    ...{ scratch: null, memory: { usedBytes: 1, totalBytes: 4 }, consoleLog: '' },
  };
  const status = statusWith({ programs: [program] });
  const { sections, state } = overview({ status, builds: [], now: NOW });
  expect(state).toBe('moving');
  expect(sections.get('guests')?.markup).toContain('&lt;script');
  const own = guestPicture('g8', status, [], NOW);
  expect(own.state).toBe('moving');
  expect(markupOf(own.sections)).toContain('booting');
  expect(markupOf(own.sections) + markupOf(sections)).not.toMatch(/<script|\u001b|\u202e/);
  expect(guestPicture('g8', statusWith(), [], NOW).state).toBe('ended');
});

test('the page of a guest that runs lists its own builds, and none of an earlier guest of that id', () => {
  const guest: Status['guests'][number] = {
    state: 'leased',
    ...{ id: 'g1', driver: 'namespace', domain: 'uid:0', leases: 1, shells: 0, builds: 1 },
    ...{ startedAt: '2026-01-01T11:59:00Z', bootedAt: null, idleSeconds: 0, asleep: false, scratch: null },
    ...{ keptBuilds: [], memory: null, sharedPaths: 0, consoleLog: '' },
  };
  const builds = [
    reportOf(NOW - 30_000, { id: 'b2', name: 'own' }),
    reportOf(NOW - 10 * MINUTE_MS, { id: 'b1', name: 'earlier' }),
  ];
  const pageOf = (status: Status): string => markupOf(guestPicture('g1', status, builds, NOW).sections);
  const running = pageOf(statusWith({ guests: [guest] }));
  expect(running).toContain('own');
  expect(running).not.toContain('earlier');
  expect(pageOf(statusWith())).toContain('earlier');
});

test('the overview of an idle Drover says what happens next, also without a history', () => {
  const idle = overview({ status: statusWith(), builds: undefined, now: NOW });
  expect(idle.state).toBe('still');
  expect(markupOf(idle.sections)).toContain('The next build boots one.');
  expect(markupOf(idle.sections)).toContain('No history is kept');
  const { sections } = overview({ status: statusWith(), builds: [], now: NOW });
  expect(markupOf(sections)).toContain('No builds in the last hour.');
});

test('the timeline shows the builds of the last hour alone, each where it was', () => {
  const builds = [
    reportOf(NOW - 10_000, { id: 'b3' }),
    reportOf(NOW - 30 * MINUTE_MS, { id: 'b2', succeeded: false, result: 'MiscFailure' }),
    reportOf(NOW - 90 * MINUTE_MS, { id: 'b1' }),
  ];
  const { markup } = timeline(builds, NOW);
  expect(markup.match(/href="\/builds\/b\d+"/g)).toEqual(['href="/builds/b2"', 'href="/builds/b3"']);
  expect(markup).toMatch(/class="bar bad"\s+x="50\.00%"/);
  expect(markup).toContain('−60 min');
});

test('the timeline keeps within its width what a clock that was ahead has left', () => {
  const builds = [reportOf(NOW + 30 * MINUTE_MS), reportOf(NOW + 60_000, { id: 'b2' })];
  const { markup } = timeline(builds, NOW);
  for (const [, x, width] of markup.matchAll(/\sx="([-\d.]+)%"\s+width="([-\d.]+)%"/g))
    expect(Number(x) + Number(width)).toBeLessThanOrEqual(100.01);
});

test('the timeline shows a shorter time when there is nothing before it, and builds side by side', () => {
  const builds = [reportOf(NOW - 9_000, { id: 'b2' }), reportOf(NOW - 10_000, { id: 'b1' })];
  const { markup } = timeline(builds, NOW);
  expect(markup).toContain('all in the last 2 min');
  expect(markup).toContain('height="40"');
});

test('the page of a build shows each step, and goes on until its outputs are fetched', () => {
  const asked = NOW - 20_000;
  const done = buildPicture(reportOf(asked, { error: HOSTILE, name: HOSTILE }), NOW);
  expect(done.state).toBe('ended');
  expect(markupOf(done.sections)).not.toMatch(/<script|\u001b|\u202e/);
  expect(done.sections.get('steps')?.markup).toContain('building <b>9.7s</b>');
  const { times } = reportOf(asked);
  const pending = reportOf(NOW - 11_000);
  expect(buildPicture({ ...pending, times: { ...pending.times, fetched: null } }, NOW).state).toBe('moving');
  const running = { ...times, ended: null, fetched: null };
  const picture = buildPicture(reportOf(asked, { times: running, result: null, succeeded: null }), NOW);
  expect(picture.state).toBe('moving');
  expect(picture.sections.get('steps')?.markup).toContain('building <b>20s</b>');
});

test('the page of a build that never got a guest shows how long it waited', () => {
  const { times } = reportOf(NOW - 20_000);
  const never = { ...times, leased: null, provisioned: null, started: null, fetched: null };
  const { sections } = buildPicture(reportOf(NOW, { times: never, guest: null, succeeded: false }), NOW);
  expect(sections.get('steps')?.markup).toContain('waiting for a guest <b>10s</b>');
});

test('the history keeps what was searched for, and leads to earlier builds', () => {
  const builds = Array.from({ length: 51 }, (_, index) => reportOf(NOW, { id: `b${100 - index}` }));
  const search = searchOf(new URLSearchParams({ name: '"><b', failed: 'on', since: '1d', before: 'b101' }));
  const { markup } = history(builds, search, NOW);
  expect(markup).toContain('value="&quot;&gt;&lt;b"');
  expect(markup).toMatch(/value="1d" selected/);
  expect(markup).toContain('name=%22%3E%3Cb&amp;since=1d&amp;failed=on&amp;before=b51');
  expect(history([], search, NOW).markup).toContain('No build fits.');
});

test('an unknown time or number in a search is left out', () => {
  const search = searchOf(new URLSearchParams({ since: '<x>', before: '-1' }));
  expect(search).toEqual({ name: '', failed: false, span: '', before: undefined });
});
