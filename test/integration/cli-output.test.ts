import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';

import { expect, test } from '@jest/globals';

import { MAIN } from '../support/drover.js';
import { describeWith } from '../support/requirements.js';

describeWith('the output of a command', ['dist'], () => {
  test('ends the command quietly when its reader is gone', async () => {
    const child = spawn(process.execPath, [MAIN, 'machines'], { stdio: ['ignore', 'pipe', 'pipe'] });
    // Closes long before the command prints its first line.
    child.stdout.destroy();
    let said = '';
    child.stderr.on('data', (text) => (said += String(text)));
    expect(await once(child, 'close')).toEqual([0, null]);
    expect(said).toBe('');
  });

  test('reports a write error and fails the command', async () => {
    // Writing to this device fails as on a full disk.
    const full = openSync('/dev/full', 'w');
    const child = spawn(process.execPath, [MAIN, 'machines'], { stdio: ['ignore', full, 'pipe'] });
    let said = '';
    child.stderr?.on('data', (text) => (said += String(text)));
    expect(await once(child, 'close')).toEqual([1, null]);
    expect(said).toBe('drover: cannot write the output: ENOSPC: no space left on device, write\n');
  });
});
