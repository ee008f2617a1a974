import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';

import { expect, test } from '@jest/globals';

import { MAIN } from '../support/drover.js';

test('a command whose output nobody reads ends without a word', async () => {
  const child = spawn(process.execPath, [MAIN, 'machines'], { stdio: ['ignore', 'pipe', 'pipe'] });
  // Long before the first line is there.
  child.stdout.destroy();
  let said = '';
  child.stderr.on('data', (text) => (said += String(text)));
  expect(await once(child, 'close')).toEqual([0, null]);
  expect(said).toBe('');
});

test('a command whose output cannot be written says so, and fails', async () => {
  // Writing to this device fails as on a full disk.
  const full = openSync('/dev/full', 'w');
  const child = spawn(process.execPath, [MAIN, 'machines'], { stdio: ['ignore', full, 'pipe'] });
  let said = '';
  child.stderr?.on('data', (text) => (said += String(text)));
  expect(await once(child, 'close')).toEqual([1, null]);
  expect(said).toBe('drover: The output cannot be written: ENOSPC: no space left on device, write\n');
});
