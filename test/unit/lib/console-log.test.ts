import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';

import { expect, test } from '@jest/globals';

import { ConsoleLog } from '../../../src/lib/console-log.js';
import { waitUntil } from '../../support/wait.js';

const MIB = 1024 * 1024;

test('a console log keeps the first 4 MiB in its file and the last lines in memory', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'drover-console-'));
  try {
    const log = new ConsoleLog(join(directory, 'g1.log'));
    const source = new PassThrough();
    log.follow(source);
    for (let i = 0; i < 6; i++) if (!source.write(Buffer.alloc(MIB, '.'))) await once(source, 'drain');
    source.end('\r\nsystemd: bye\r\nKernel panic\r\n');
    await once(source, 'end');
    log.close();
    const text = await waitUntil('the end of the file', async () => {
      const written = await readFile(log.path, 'utf8').catch(() => '');
      return written.endsWith(']\n') && written;
    });
    expect(text.length).toBeLessThan(4 * MIB + 200);
    expect(text.slice(-200)).toContain('[truncated after 4194304 bytes]');
    expect(log.tail()).toMatch(/\.\nsystemd: bye\nKernel panic$/);
    expect((await stat(log.path)).mode & 0o777).toBe(0o600);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
