import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';
import { execa } from 'execa';
import { stringify } from 'yaml';

import { REPOSITORY, startDrover, type Drover } from '../support/drover.js';
import { guestInit } from '../support/guests.js';
import { nixHost, succeeded } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { fill, mountedDirectory, unmount } from '../support/small-disk.js';
import { waitUntil } from '../support/wait.js';

const METRICS = { metrics: { listen: '127.0.0.1:0' } };

/** Series of supervisors as Prometheus would have them, if a minute passed between two scrapes. */
class Series {
  readonly #values = new Map<string, string[]>();
  #minutes = 0;

  get minutes(): number {
    return this.#minutes;
  }

  /** @param supervisors by the name of their instance */
  async scrape(supervisors: Readonly<Record<string, Drover>>, times = 1): Promise<void> {
    for (let i = 0; i < times; i++) {
      for (const [instance, drover] of Object.entries(supervisors)) {
        const { metrics } = await drover.status().catch(() => ({ metrics: null }));
        const answer = metrics === null ? undefined : await (await fetch(metrics)).text();
        this.#add(`up{job="drover", instance="${instance}"}`, answer === undefined ? '0' : '1');
        for (const line of answer?.split('\n') ?? []) {
          const [, name, labels, value] = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
          if (name === undefined || value === undefined || !name.startsWith('drover_')) continue;
          const others = labels === undefined ? '' : `, ${labels}`;
          this.#add(`${name}{job="drover", instance="${instance}"${others}}`, value);
        }
      }
      this.#minutes += 1;
    }
  }

  #add(series: string, value: string): void {
    const values = this.#values.get(series) ?? [];
    this.#values.set(series, values);
    while (values.length < this.#minutes) values.push('_');
    values.push(value);
  }

  get input(): readonly { readonly series: string; readonly values: string }[] {
    return [...this.#values].map(([series, values]) => ({ series, values: values.join(' ') }));
  }
}

describeE2e('alerts on the series of a run of chaos', ['prometheus'], () => {
  test('fire for what went wrong, on the supervisor where it did, and for nothing before', async () => {
    const full = await mountedDirectory('size=256m,nr_inodes=500');
    const dir = await mkdtemp('/tmp/alerts-');
    try {
      const pool = { maxGuests: 1, jobsPerGuest: 4 };
      await using a = await startDrover({ config: { pool, ...METRICS } });
      await using b = await startDrover({ stateDir: full, config: METRICS });
      await using host = await nixHost({ drover: a });
      await using other = await nixHost({ drover: b });
      const supervisors = { a, b };
      const series = new Series();
      succeeded(await host.build(host.derivation('quiet', 'echo > $out')));
      await series.scrape(supervisors, 5);
      const calm = series.minutes - 1;

      for (let round = 0; round < 2; round++) {
        const since = await a.caughtUp();
        const builds = [0, 1, 2, 3].map((index) =>
          host.startBuild(host.derivation(`long-${round}-${index}`, 'sleep 86399')),
        );
        const seen = (type: 'build-started' | 'build-replayed' | 'build-finished', times: number) =>
          waitUntil(`${type} of all builds`, () => a.events.of(type, since).length >= times * builds.length);
        for (const kill of [1, 2]) {
          await seen('build-started', kill);
          const guest = a.events.of('build-started').at(-1)?.guest ?? '';
          process.kill(await guestInit(a.stateDir, guest), 'SIGKILL');
          await seen('build-replayed', kill);
          await series.scrape(supervisors);
        }
        await seen('build-started', 3);
        for (const build of builds) build.signalGroup('SIGINT');
        await seen('build-finished', 1);
        for (const build of builds) await build.ended;
      }
      await a.replaceConfig('pool: { maxGusts: 3 }\n');
      await a.waitForLog('the new configuration is not usable; the old one stays');
      await fill('mkdir $0/filler; for i in $(seq 600); do : > $0/filler/$i || break; done', full);
      for (let attempt = 0; attempt < 2; attempt++) {
        expect((await other.build(other.derivation(`refused-${attempt}`, 'echo > $out'))).exitCode).not.toBe(
          0,
        );
        await series.scrape(supervisors);
      }
      a.signal('SIGKILL');
      await a.exited;
      await series.scrape(supervisors, 4);
      const end = series.minutes - 1;

      const firing = (instance: string, ...alerts: string[]) =>
        alerts.map((alert) => ({ labels: `{alertname="${alert}", instance="${instance}"}`, value: 1 }));
      const expr = 'count by (alertname, instance) (ALERTS{alertstate="firing"})';
      const rulesTest = {
        rule_files: [join(REPOSITORY, 'packaging/prometheus/alerts.yaml')],
        evaluation_interval: '1m',
        tests: [
          {
            interval: '1m',
            input_series: series.input,
            promql_expr_test: [
              { expr, eval_time: `${calm}m`, exp_samples: [] },
              {
                expr,
                eval_time: `${end}m`,
                exp_samples: [
                  ...firing('a', 'DroverSupervisorDown', 'DroverGuestsLost'),
                  ...firing('a', 'DroverReplaysHigh', 'DroverConfigRejected'),
                  ...firing('b', 'DroverBootFailing'),
                ],
              },
            ],
          },
        ],
      };
      const file = join(dir, 'chaos.test.yaml');
      await writeFile(file, stringify(rulesTest));
      const { all } = await execa('promtool', ['test', 'rules', file], { all: true, reject: false });
      expect(all).toContain('SUCCESS');
    } finally {
      await unmount(full);
      await rm(dir, { recursive: true });
    }
  });
});
