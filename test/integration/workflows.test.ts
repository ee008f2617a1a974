import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';
import { execa } from 'execa';
import { parse } from 'yaml';

import { REPOSITORY } from '../support/drover.js';

const PIN = 'actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1';

async function check(...workflows: readonly string[]): Promise<{ exitCode?: number; stdout: string }> {
  const dir = await mkdtemp(join(tmpdir(), 'workflows-'));
  try {
    const files = workflows.map((_, index) => join(dir, `${index}.yml`));
    for (const [index, text] of workflows.entries()) await writeFile(files[index] ?? '', text);
    return await execa('node', ['scripts/check-workflows.mjs', ...files], { cwd: REPOSITORY, reject: false });
  } finally {
    await rm(dir, { recursive: true });
  }
}

function workflow(steps: readonly string[], runner = 'macos-26'): string {
  const lines = steps.map((step) => `      - ${step}\n`).join('');
  return `on: push\njobs:\n  job:\n    runs-on: ${runner}\n    steps:\n${lines}`;
}

test('accepts the workflows of this repository', async () => {
  expect(await check()).toMatchObject({ exitCode: 0, stdout: '' });
});

test('refuses broken workflows, and says what is wrong with each', async () => {
  const { exitCode, stdout } = await check(
    workflow([`uses: ${PIN}`, 'run: scripts/mac-truth.sh image']),
    workflow(['uses: actions/checkout@v4']),
    workflow(['run: scripts/ci/absent.sh']),
    workflow(['run: scripts/mac-truth.sh image && curl example.org']),
    workflow(['run: npm run check -- ${{ github.event.issue.title }}']),
    workflow(['run: npm run check'], 'macos-99'),
    'on: push\njobs:\n  job:\n    runs-on: ubuntu-24.04\n    needs: [another]\n    steps: []\n',
    'on: [push\n',
  );
  expect(exitCode).toBe(1);
  for (const told of [
    /1\.yml: job job: actions\/checkout@v4 is not pinned/,
    /2\.yml: job job: there is no scripts\/ci\/absent\.sh/,
    /3\.yml: job job: ".*curl.*" is not one command of this repository/,
    /4\.yml:6:\d+: "github\.event\.issue\.title" is potentially untrusted/,
    /5\.yml: job job: unknown runner "macos-99"/,
    /6\.yml:\d+:\d+: .*"another"/,
    /7\.yml: Flow sequence/,
  ])
    expect(stdout).toMatch(told);
  expect(stdout).not.toContain('0.yml');
});

test('has every job that docs/verifying.md says will show what only a Mac can', async () => {
  const read = async (file: string): Promise<string> => await readFile(join(REPOSITORY, file), 'utf8');
  const jobs = new Set(['none']);
  for (const file of ['linux.yml', 'mac.yml'])
    for (const job of Object.keys((parse(await read(`.github/workflows/${file}`)) as { jobs: object }).jobs))
      jobs.add(job);
  const [, section = ''] = (await read('docs/verifying.md')).split('## What only a Mac can show');
  const rows = section.split('\n').filter((line) => line.startsWith('| '));
  const end = rows.findIndex((row) => row.startsWith('| probe '));
  const cells = rows.slice(2, end).map((row) => row.split(' | ')[1] ?? '');
  expect(cells.length).toBeGreaterThan(20);
  const named = cells.flatMap((cell) =>
    cell
      .replaceAll(/\(.*?\)|:.*/g, '')
      .split(/, (?:then )?/)
      .map((word) => word.trim()),
  );
  expect(named.filter((word) => !jobs.has(word))).toEqual([]);
});
