import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test } from '@jest/globals';

import type { CliContext } from '../../../src/cli/context.js';
import { runCli } from '../../../src/cli/index.js';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'drover-cli-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

/** Runs one command line, with `defaultConfigFile` in the test's directory. */
async function drover(...argv: string[]) {
  let stdout = '';
  let stderr = '';
  const served: (string | undefined)[] = [];
  const context: CliContext = {
    version: '1.2.3',
    env: {},
    uid: 0,
    home: '/root',
    defaultConfigFile: join(directory, 'default.yaml'),
    print: (text) => (stdout += text),
    printAll: async (parts) => {
      for await (const part of parts) stdout += String(part);
    },
    steer: () => undefined,
    screen: () => ({ columns: 80, rows: 24, terminal: false, colours: false }),
    interrupted: () => new AbortController().signal,
    programIo: () => {
      throw new Error('no program in this test');
    },
    printError: (text) => (stderr += text),
    storeDir: '/nix/store',
    createDriver: () => Promise.reject(new Error('no driver in this test')),
    serve: (_config, file) => {
      served.push(file);
      return Promise.resolve(0);
    },
    systems: () => Promise.resolve(['x86_64-linux']),
    hostKey: () => Promise.resolve(undefined),
    connectProgram: () => '/s/doors/connect',
    hostName: 'builder.example',
    cwd: '/',
  };
  const exitCode = await runCli(argv, context);
  return { exitCode, stdout, stderr, served };
}

test.each([
  ['before the command', (file: string) => ['--config', file, 'serve']],
  ['after the command', (file: string) => ['serve', '--config', file]],
])('reads the file that --config names %s', async (_, argv) => {
  const file = join(directory, 'drover.yaml');
  await writeFile(file, 'nonsense: 1\n');
  const wrong = await drover(...argv(file));
  expect(wrong.exitCode).toBe(78);
  expect(wrong.stderr).toContain(`${file}:1:1: nonsense: `);

  await writeFile(file, 'pool: { maxGuests: 3 }\n');
  expect(await drover(...argv(file))).toMatchObject({ exitCode: 0, served: [file] });
});

test('reads the default file where it exists', async () => {
  expect(await drover('serve')).toMatchObject({ exitCode: 0, served: [undefined] });

  const file = join(directory, 'default.yaml');
  await writeFile(file, '');
  expect(await drover('serve')).toMatchObject({ exitCode: 0, served: [file] });

  await writeFile(file, 'nonsense: 1\n');
  expect((await drover('check')).stderr).toContain(`${file}:1:1: nonsense: `);
});

test('prefers the file that --config names to the default file', async () => {
  await writeFile(join(directory, 'default.yaml'), 'nonsense: 1\n');
  const file = join(directory, 'other.yaml');
  await writeFile(file, '');
  expect(await drover('serve', '--config', file)).toMatchObject({ exitCode: 0, served: [file] });
});

test('shows --config in the help of every command', async () => {
  for (const verb of ['serve', 'check', 'status', 'machines'])
    expect((await drover(verb, '--help')).stdout).toContain('--config <file>');
});

test('reports an unknown command with the nearest one', async () => {
  const { exitCode, stderr } = await drover('statu');
  expect(exitCode).toBe(2);
  expect(stderr).toContain('Did you mean status?');
});
