import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test } from '@jest/globals';

import { openLog } from '../../src/lib/log.js';

let directory: string;
let file: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'drover-log-'));
  file = join(directory, 'drover.log');
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** The messages in a log file. */
async function messages(path: string): Promise<string[]> {
  const text = await readFile(path, 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => (JSON.parse(line) as { msg: string }).msg);
}

test('a log file is appended to, and other users cannot read it', async () => {
  (await openLog({ level: 'info', file })).log.info('one');
  (await openLog({ level: 'info', file })).log.info('two');
  expect(await messages(file)).toEqual(['one', 'two']);
  expect((await stat(file)).mode & 0o777).toBe(0o640);
});

test('a log file that was renamed is left, and a new one begun', async () => {
  const { log, reopen } = await openLog({ level: 'info', file });
  log.info('one');
  await rename(file, `${file}.0`);
  log.info('two');
  reopen();
  log.info('three');
  expect(await messages(`${file}.0`)).toEqual(['one', 'two']);
  expect(await messages(file)).toEqual(['three']);
});

test('a log file that cannot be reopened: the old one is kept, and says so', async () => {
  const { log, reopen } = await openLog({ level: 'info', file });
  await rename(file, `${file}.0`);
  await mkdir(file);
  reopen();
  log.info('one');
  await rm(file, { recursive: true });
  reopen();
  log.info('two');
  expect(await messages(`${file}.0`)).toEqual([
    'log file could not be reopened; still writing to the old one',
    'one',
  ]);
  expect(await messages(file)).toEqual(['two']);
});

test('a log file that cannot be begun at all', async () => {
  await expect(openLog({ level: 'info', file: join(directory, 'absent/drover.log') })).rejects.toThrow(
    /^The log file \S+absent\/drover\.log cannot be written: ENOENT/,
  );
});

test('a log file in a directory where every user could put a link in its place', async () => {
  await chmod(directory, 0o777);
  await expect(openLog({ level: 'info', file })).rejects.toMatchObject({
    code: 'LOG_UNUSABLE',
    message: `The log file ${file} cannot be written: other users can write ${directory} (mode 0777)`,
  });
  expect(await readdir(directory)).toEqual([]);
  // As /var/log on some systems.
  await chmod(directory, 0o775);
  (await openLog({ level: 'info', file })).log.info('one');
  expect(await messages(file)).toEqual(['one']);
});

test('a full disk costs lines of the log, and nothing else', async () => {
  // Writing to this device fails as on a full disk.
  const { log } = await openLog({ level: 'info', file: '/dev/full' });
  expect(() => {
    for (let i = 0; i < 10; i++) log.info('lost');
  }).not.toThrow();
});
