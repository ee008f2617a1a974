import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';
import { execa } from 'execa';
import { parse } from 'yaml';

import { REPOSITORY } from '../support/drover.js';
import { describeWith } from '../support/requirements.js';
import { MetricsBench } from '../unit/metrics/support.js';

const ALERTS = join(REPOSITORY, 'packaging/prometheus/alerts.yaml');
const RUNBOOKS = join(REPOSITORY, 'docs/runbooks');

interface Alert {
  readonly alert: string;
  readonly expr: string;
  readonly annotations: Readonly<Record<string, string>>;
}

async function alerts(): Promise<readonly Alert[]> {
  const { groups } = parse(await readFile(ALERTS, 'utf8')) as { groups: { rules: Alert[] }[] };
  return groups.flatMap(({ rules }) => rules);
}

/** Names of Drover's metrics in a text, without the suffixes of a histogram's series. */
function metricsIn(text: string): string[] {
  return [...text.matchAll(/\bdrover_[a-z_]+/g)].map(([name]) => name.replace(/_(bucket|count|sum)$/, ''));
}

function knownMetrics(): readonly string[] {
  return new MetricsBench().registry.getMetricsAsArray().map(({ name }) => name);
}

test('each alert has a runbook of its own, and each runbook an alert', async () => {
  const names = (await alerts()).map(({ alert }) => alert);
  expect((await readdir(RUNBOOKS)).sort()).toEqual(names.map((name) => `${name}.md`).sort());
  for (const { alert, annotations } of await alerts()) {
    expect(annotations['runbook_url']).toMatch(new RegExp(`/docs/runbooks/${alert}\\.md$`));
    const headings = (await readFile(join(RUNBOOKS, `${alert}.md`), 'utf8')).match(/^#+ .*/gm);
    expect(headings).toEqual([`# ${alert}`, '## Meaning', '## Impact', '## Diagnosis', '## Mitigation']);
  }
});

test('alerts, runbooks and docs/monitoring.md name only metrics that there are', async () => {
  const known = knownMetrics();
  const texts = [
    ...(await alerts()).map(({ expr }) => expr),
    await readFile(join(REPOSITORY, 'docs/monitoring.md'), 'utf8'),
    ...(await Promise.all((await readdir(RUNBOOKS)).map((name) => readFile(join(RUNBOOKS, name), 'utf8')))),
  ];
  expect(metricsIn(texts.join('\n')).filter((name) => !known.includes(name))).toEqual([]);
});

test('docs/monitoring.md has a query for every metric', async () => {
  const named = metricsIn(await readFile(join(REPOSITORY, 'docs/monitoring.md'), 'utf8'));
  const drovers = knownMetrics().filter((name) => name.startsWith('drover_'));
  expect(drovers.filter((name) => !named.includes(name))).toEqual([]);
});

test('the dashboard for Grafana is what its script makes, and names only metrics that there are', async () => {
  const { stdout } = await execa('node', [join(REPOSITORY, 'scripts/grafana.mjs')], {
    stripFinalNewline: false,
  });
  expect(await readFile(join(REPOSITORY, 'packaging/grafana/drover.json'), 'utf8')).toBe(stdout);
  const known = knownMetrics();
  expect(metricsIn(stdout).filter((name) => !known.includes(name))).toEqual([]);
  const drovers = known.filter((name) => name.startsWith('drover_'));
  expect(drovers.filter((name) => !metricsIn(stdout).includes(name))).toEqual([]);
});

describeWith('promtool', ['prometheus'], () => {
  test.each([
    ['accepts the alerts', ['check', 'rules', ALERTS]],
    [
      'finds that they fire when they should, and only then',
      ['test', 'rules', ALERTS.replace('.yaml', '.test.yaml')],
    ],
  ])('%s', async (_, args) => {
    const { exitCode, all } = await execa('promtool', args, { all: true, reject: false });
    expect({ exitCode, all }).toMatchObject({
      exitCode: 0,
      all: expect.stringContaining('SUCCESS') as unknown,
    });
  });
});
