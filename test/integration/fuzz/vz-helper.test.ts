import type { ChildProcess } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { PassThrough } from 'node:stream';

import { expect, test } from '@jest/globals';

import { HelperConnection } from '../../../src/drivers/vz/helper-connection.js';
import { FUZZ_CASES, FUZZ_SEED, mutated, pieces, random } from '../../support/fuzz.js';

const SAID = Buffer.from(
  [
    '{"id":1,"ok":true,"result":{"protocol":1,"state":"running"}}',
    '{"event":"warning","error":{"code":"X","text":"low on space"}}',
    '{"event":"stopped","reason":"guest"}',
    '{"id":2,"ok":false,"error":{"code":"VZErrorInternal","domain":"VZErrorDomain","text":"no"}}',
    '',
  ].join('\n'),
);

test(`no reply of a vz-helper ends more than its guest (seed ${FUZZ_SEED})`, async () => {
  const next = random(FUZZ_SEED);
  for (let index = 0; index < FUZZ_CASES; index++) {
    const [stdin, stdout, stderr] = [new PassThrough().resume(), new PassThrough(), new PassThrough()];
    let isKilled = false;
    const kill = (): boolean => (isKilled = true);
    const helper = Object.assign(new EventEmitter(), { stdin, stdout, stderr, kill, pid: 1 });
    const connection = new HelperConnection(helper as unknown as ChildProcess);
    connection.events.on(() => undefined);
    for (const piece of pieces(mutated(SAID, next), next)) stdout.write(piece);
    stdout.end();
    await new Promise((resolve) => stdout.once('end', resolve));
    // Anything but a message is a failure, and ends the helper.
    if (connection.failure !== undefined) expect(isKilled).toBe(true);
  }
});
