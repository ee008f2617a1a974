import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, expect, test } from '@jest/globals';

import { bootVerdicts, verdicts } from '../../../bench/bars.js';
import { hostArchitecture, readOptions, SCENARIOS } from '../../../bench/options.js';
import { renderBoots } from '../../../bench/report.js';
import { Samples } from '../../../bench/samples.js';

const nix = mkdtempSync(join(tmpdir(), 'drover-nix-'));
writeFileSync(join(nix, 'nix-store'), '');
afterAll(() => {
  rmSync(nix, { recursive: true });
});
const read = (argv: readonly string[]) => readOptions(argv, nix);
const foreign = hostArchitecture() === 'x86_64' ? 'aarch64' : 'x86_64';

test('without options, guests are namespaces, and everything is measured', () => {
  expect(read([])).toMatchObject({
    nix,
    driver: 'namespace',
    architecture: hostArchitecture(),
    only: SCENARIOS,
    rounds: 5,
    inputBytes: 300e6,
    outputBytes: 1000e6,
    growthBytes: [30e6, 3000e6],
    leaves: 100,
  });
});

test('VMs may be emulated, and are given less to do', () => {
  expect(read(['--driver', 'qemu', '--architecture', foreign])).toMatchObject({
    driver: 'qemu',
    architecture: foreign,
    inputBytes: 30e6,
    outputBytes: 100e6,
    growthBytes: [3e6, 300e6],
    leaves: 20,
  });
});

test('sizes can be chosen, and --quick keeps them', () => {
  const sizes = ['--input-mb', '7', '--output-mb', '8', '--leaves', '9'];
  for (const more of [[], ['--quick'], ['--driver', 'qemu']]) {
    expect(read([...sizes, ...more])).toMatchObject({
      inputBytes: 7e6,
      outputBytes: 8e6,
      leaves: 9,
    });
  }
});

test.each(['namespace', 'qemu'])(
  'all sizes of %s are whole numbers of bytes, also with --quick',
  (driver) => {
    const { inputBytes, outputBytes, growthBytes } = read(['--quick', '--driver', driver]);
    for (const size of [inputBytes, outputBytes, ...growthBytes]) expect(Number.isInteger(size)).toBe(true);
  },
);

test.each([
  [['--driver', 'vz'], '--driver: unknown value vz'],
  [['--architecture', 'riscv64'], '--architecture: unknown value riscv64'],
  [['--architecture', foreign], `--architecture ${foreign}: guests of the namespace driver are`],
  [['--only', 'cold,boot'], '--only: unknown value boot'],
  [['--kernel', 'stock,mine'], '--kernel: unknown value mine'],
  [['--kernel', 'minimal'], '--kernel minimal: guests of the namespace driver have no kernel of their own'],
  [['--boots', '0'], '--boots: expected a whole number of at least 1, not 0'],
  [['--rounds', '2.5'], '--rounds: expected a whole number of at least 1, not 2.5'],
  [['--nix', '/nowhere'], '--nix /nowhere: there is no nix-store in this directory'],
  [['--input-mb', 'ten'], '--input-mb: expected a whole number of at least 1, not ten'],
])('%j is refused', (argv, message) => {
  expect(() => read([...argv])).toThrow(message);
});

test('of a hundred cold starts one may fail, and its reason is shown', () => {
  const start = { firstLogMs: 3_000, totalMs: 3_500, phases: { 'client to lease': 50 } };
  const boots = (works: number, fails: number) => ({
    kernel: 'stock' as const,
    starts: Array.from({ length: works }, () => start),
    failures: Array.from({ length: fails }, () => 'The guest g7 did not boot'),
  });
  expect(bootVerdicts(boots(99, 1), { driver: 'qemu' }).map(({ met }) => met)).toEqual([true, true]);
  expect(bootVerdicts(boots(98, 2), { driver: 'qemu' }).map(({ met }) => met)).toEqual([false, true]);
  expect(bootVerdicts(boots(99, 1), { driver: 'namespace' }).map(({ met }) => met)).toEqual([true, false]);
  expect(bootVerdicts(boots(0, 3), { driver: 'qemu' }).map(({ met }) => met)).toEqual([false, undefined]);
  const text = renderBoots([boots(99, 1)]);
  const two = { ...boots(0, 0), starts: [100, 200].map((firstLogMs) => ({ ...start, firstLogMs })) };
  expect(renderBoots([two])).toMatch(/to the first log line +100 ms +150 ms +200 ms +200 ms/);
  expect(text).toMatch(/^cold starts, stock: 99, failed: 1 /);
  expect(text).toMatch(/client to lease +50 ms +50 ms/);
  // Guests without a console tell less.
  expect(text).not.toContain('its start-up');
  expect(text).toMatch(/The guest g7 did not boot$/);
});

test('emulated guests are not held against a local build', () => {
  const bars = (emulated: boolean) =>
    verdicts(new Samples(), { growth: ['input: new, 3 MB', 'input: new, 300 MB'], driver: 'qemu', emulated })
      .map(({ bar }) => bar)
      .filter((bar) => bar.includes('local'));
  expect(bars(true)).toEqual([]);
  expect(bars(false)).not.toEqual([]);
});

test('cold starts with several kernels stand side by side', () => {
  const boots = (kernel: 'stock' | 'minimal', firstLogMs: number) => ({
    ...{ kernel, failures: [], starts: [{ firstLogMs, totalMs: 3_500, phases: {} }] },
  });
  const text = renderBoots([boots('stock', 3_000), boots('minimal', 1_200)]);
  expect(text).toMatch(/^medians +stock +minimal$/m);
  expect(text).toMatch(/^to the first log line +3000 ms +1200 ms +0\.40 ×$/m);
});
