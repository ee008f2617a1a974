import { describe, expect, test } from '@jest/globals';

import { parseDerivation } from '../../../src/cli/derivation.js';
import type { Screen } from '../../../src/cli/screen.js';
import { renderBuild, renderHistory } from '../../../src/cli/views/build.js';
import { compare, renderComparison } from '../../../src/cli/views/compare.js';
import { renderStatus } from '../../../src/cli/views/status.js';
import { renderTop } from '../../../src/cli/views/top.js';
import type { BuildReport, RunningBuildReport, Status } from '../../../src/control/api.js';

const NOW = Date.UTC(2026, 0, 1, 12);
const HOSTILE = 'x\u001b]0;evil\u0007\n\u202etxt';

const BUILD: BuildReport = {
  id: 'b1842',
  derivation: '/nix/store/00000000000000000000000000000000-hello-2.12.drv',
  name: 'hello-2.12',
  system: 'x86_64-linux',
  client: { door: 'socket', domain: 'uid:0', name: 'uid 0' },
  guest: 'g7',
  generation: '7978c25c22f5a526',
  times: {
    asked: NOW - 60_000,
    leased: NOW - 59_800,
    provisioned: NOW - 59_700,
    started: NOW - 59_650,
    ended: NOW - 48_000,
    fetched: NOW - 47_500,
  },
  result: 'Built',
  succeeded: true,
  error: null,
  replays: [{ guest: 'g6', reason: 'The guest g6 was lost: unplugged', at: NOW - 59_900 }],
  inputs: { shared: 120, sharedBytes: 2 ** 30, copied: 2, copiedBytes: 2 ** 20 },
  relayedBytes: 4_096,
  usage: { source: 'proc', cpuSeconds: 8.2, peakMemoryBytes: 2 ** 27, readBytes: 1_024, writtenBytes: 2_048 },
  log: { lines: 12, bytes: 640, storedBytes: 200 },
  phase: null,
  waiting: null,
  expectedMs: 11_000,
};
const RUNNING: RunningBuildReport = {
  ...{ id: 'b1843', session: 3, door: 'socket', derivation: BUILD.derivation, system: 'x86_64-linux' },
  ...{ guest: 'g7', waiting: null, phase: 'buildPhase', seconds: 9, runningSeconds: 8, expectedSeconds: 11 },
  usage: null,
};

function screen(columns: number, colours = false): Screen {
  return { columns, rows: 24, terminal: colours, colours };
}

function status(builds: readonly RunningBuildReport[]): Status {
  return {
    ...{ version: '1', pid: 1, state: 'running', startedAt: '', driver: 'namespace', warnings: [] },
    ...{
      nixVersion: '2.8.0',
      protocol: '1.33',
      systems: [],
      features: [],
      maxGuests: 2,
      jobsPerGuest: 4,
      maxJobs: 8,
    },
    ...{ doors: { socket: '', ssh: null }, metrics: null, page: null, queues: [], failedBoots: null },
    ...{ rollout: null, restartKeys: [], reloadError: null },
    ...{ waiting: 0, leases: 0, sessions: 0 },
    guests: [
      {
        ...{
          id: 'g7',
          state: 'leased',
          driver: 'namespace',
          domain: 'uid:0',
          leases: 1,
          shells: 0,
          keptBuilds: ['b9'],
          builds: 3,
        },
        ...{ startedAt: '2026-01-01T11:00:00Z', bootedAt: '2026-01-01T11:00:01Z', idleSeconds: 0 },
        ...{
          asleep: false,
          scratch: { usedBytes: 1, totalBytes: 4 },
          memory: { usedBytes: 2, totalBytes: 4 },
          sharedPaths: 0,
          consoleLog: '',
        },
      },
    ],
    programs: [
      {
        ...{ id: 'g8', driver: 'namespace', program: `hello/bin/hello ${HOSTILE}` },
        ...{ startedAt: '2026-01-01T11:59:00Z', bootedAt: '2026-01-01T11:59:01Z', consoleLog: '' },
        ...{ scratch: null, memory: { usedBytes: 1, totalBytes: 4 } },
      },
    ],
    builds,
    totals: {
      ...{ guestsBooted: 0, builds: 0, failedBuilds: 0, replayedBuilds: 0 },
      ...{ sharedPaths: 0, sharedBytes: 0, copiedPaths: 0, copiedBytes: 0 },
    },
  };
}

const TROUBLES: Partial<Status> = {
  warnings: [`w ${'word '.repeat(40)}`],
  failedBoots: { count: 2, last: `The guest g9 did not boot: ${HOSTILE}\n(console log: /x)` },
  reloadError: { at: '2026-01-01T11:00:00Z', reason: `${HOSTILE} is wrong` },
  restartKeys: ['metrics.listen', 'stateDir'],
  rollout: { generation: 'g', state: 'failed', startedAt: '', error: HOSTILE },
};

function everything(columns: number, build: BuildReport, running: RunningBuildReport): string {
  const waiting = {
    ...running,
    id: 'b9',
    guest: null,
    waiting: { before: 2, reason: '2 of 2 guests are full' },
  };
  const pair = [build, { ...build, id: 'b2', derivation: '/nix/store/other.drv' }] as const;
  return [
    renderHistory([build, build], NOW, screen(columns)),
    renderBuild(build, NOW, screen(columns)),
    renderComparison(compare(pair, [undefined, undefined]), ['b1842', 'b2'], screen(columns)),
    ...renderTop(status([running, waiting]), NOW, screen(columns)),
    ...renderStatus({ ...status([running, waiting]), ...TROUBLES }, NOW, screen(columns)),
  ].join('\n');
}

describe('views of builds', () => {
  test.each([80, 40, 20])('fit %i columns', (columns) => {
    const long = {
      ...{ ...BUILD, name: 'n'.repeat(200), error: 'e '.repeat(500) },
      ...{ result: 'ResolvesToAlreadyValid', succeeded: false },
    };
    for (const line of everything(columns, long, RUNNING).split('\n'))
      expect(Array.from(line).length).toBeLessThanOrEqual(columns);
  });

  test('compare in 20 columns shows a part of both values', () => {
    const builds = [BUILD, { ...BUILD, system: 'aarch64-linux' }] as const;
    const text = renderComparison(compare(builds, [undefined, undefined]), ['b1842', 'b2'], screen(20));
    expect(text).toMatch(/^\* sys\S* +x86\S* +aar\S*$/m);
  });

  test('show build and name in 20 columns', () => {
    expect(renderHistory([BUILD], NOW, screen(20)).split('\n')).toEqual([
      'BUILD  NAME',
      'b1842  hello-2.12',
      '',
    ]);
  });

  test('let nothing through that a terminal would act on', () => {
    const hostile: BuildReport = {
      ...BUILD,
      ...{
        derivation: HOSTILE,
        name: HOSTILE,
        system: HOSTILE,
        error: HOSTILE,
        result: HOSTILE,
        succeeded: false,
      },
      ...{ client: { door: 'ssh', domain: HOSTILE, name: HOSTILE }, phase: HOSTILE },
      replays: [{ guest: HOSTILE, reason: HOSTILE, at: 0 }],
    };
    const text = everything(80, hostile, { ...RUNNING, derivation: HOSTILE, phase: HOSTILE });
    expect(text).not.toMatch(/[^\P{Cc}\n]|\p{Cf}/u);
  });

  test('name the steps, the replays and how usage was measured', () => {
    const text = renderBuild(BUILD, NOW, screen(80));
    expect(text).toContain('leased +200ms, provisioned +300ms, started +350ms, ended +12s');
    expect(text).toContain('g6: The guest g6 was lost: unplugged');
    expect(text).toContain('8.2s (sampled from /proc)');
  });

  test('colour only where the screen has colours', () => {
    expect(renderBuild(BUILD, NOW, screen(80, true))).toContain('\u001b[32mok\u001b[0m');
    expect(renderBuild(BUILD, NOW, screen(80))).not.toContain('\u001b');
  });
});

describe('top', () => {
  test('shows the guests of programs beside those of builds', () => {
    const rows = renderTop(status([]), NOW, screen(120));
    expect(rows[0]).toBe('drover running: 1 of 2 guests, 0 builds, 0 waiting, 1 program');
    expect(rows.find((row) => row.startsWith('g8'))).toMatch(
      /^g8 +program +- +- +59s +- +25 % of 4 B +hello\/bin\/hello /,
    );
  });

  test('tells the time left by the last builds of the name, and why a build waits', () => {
    const waiting: RunningBuildReport = {
      ...RUNNING,
      ...{ id: 'b1844', guest: null, waiting: { before: 2, reason: '2 of 2 guests are full' } },
    };
    const lines = renderTop(status([RUNNING, waiting]), NOW, screen(80));
    expect(lines.find((line) => line.startsWith('b1843'))).toMatch(
      /hello-2\.12 +g7 +buildPhase +9\.0s +3\.0s/,
    );
    expect(lines.at(-1)).toBe('b1844 hello-2.12 has waited 9.0s: 2 of 2 guests are full; 2 before it');
  });

  test('tells how late a build is', () => {
    const late = renderTop(status([{ ...RUNNING, runningSeconds: 71 }]), NOW, screen(80));
    expect(late.join('\n')).toContain('+1m 0s');
  });
});

describe('compare', () => {
  const drv = (path: string, flags: string): string =>
    `Derive([("out","/nix/store/${'0'.repeat(32)}-x","","")],[("/nix/store/${path}.drv",["out"])],["/nix/store/${'1'.repeat(32)}-src"],"x86_64-linux","/bin/sh",["-c","true"],[("FLAGS","${flags}"),("name","x")])`;

  test('names variables and inputs that differ, and not those that do not', () => {
    const one = parseDerivation(drv(`${'2'.repeat(32)}-dep-1`, '-O2 \\"x\\"'), '/nix/store');
    const other = parseDerivation(drv(`${'3'.repeat(32)}-dep-2`, '-O3'), '/nix/store');
    const pair = [BUILD, { ...BUILD, derivation: '/nix/store/x.drv' }] as const;
    expect(compare(pair, [one, other]).derivations).toEqual([
      '~ variable FLAGS',
      `- /nix/store/${'2'.repeat(32)}-dep-1.drv`,
      `+ /nix/store/${'3'.repeat(32)}-dep-2.drv`,
    ]);
    expect(compare([BUILD, BUILD], [one, one]).derivations).toBe('same');
  });

  test('marks facts that differ', () => {
    const slower = { ...BUILD, times: { ...BUILD.times, ended: NOW - 10_000 } };
    const text = renderComparison(compare([BUILD, slower], [undefined, undefined]), ['b1', 'b2'], screen(80));
    expect(text).toMatch(/^\* built +12s +50s$/m);
    expect(text).toMatch(/^ {2}memory +128 MiB +128 MiB$/m);
  });
});

test('numbers agree with their nouns', () => {
  const idle = status([RUNNING]);
  const [guest] = idle.guests;
  const one: Status = {
    ...{ ...idle, maxGuests: 1, maxJobs: 1, sessions: 1, failedBoots: { count: 1, last: 'no disk' } },
    guests: guest === undefined ? [] : [{ ...guest, shells: 1 }],
    totals: { ...idle.totals, guestsBooted: 1, builds: 1, sharedPaths: 1 },
  };
  const text = renderStatus(one, NOW, screen(200)).join('\n');
  expect(text).toContain('at most 1 guest and 1 job\n');
  expect(text).toContain('1 of 1 guest, 1 build, 0 waiting');
  expect(text).toContain('1 boot failed, last: no disk');
  expect(text).toContain('g7 has 1 open shell\n');
  expect(text).toContain(
    '1 session; since the start 1 guest booted and 1 build ended (0 failed, 0 replayed)',
  );
  expect(text).toContain('inputs: 1 path shared (0 B), 0 copied (0 B)');
});

test('status says what is wrong, and names builds rather than store paths', () => {
  const text = renderStatus({ ...status([RUNNING]), ...TROUBLES }, NOW, screen(200)).join('\n');
  expect(text).toContain('2 boots failed, last: The guest g9 did not boot: ');
  expect(text).toContain('the last reload failed (2026-01-01T11:00:00Z): ');
  expect(text).toContain('a restart is needed for: metrics.listen, stateDir');
  expect(text).toContain('guests of the new configuration failed their trial, the old ones continue: ');
  expect(text).toContain('25 % of 4 B');
  expect(text).toContain('g7 keeps the failed build b9: drover shell b9');
  expect(text).not.toContain('/nix/store');
});
