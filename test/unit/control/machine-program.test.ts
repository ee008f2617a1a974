import { PassThrough } from 'node:stream';

import { expect, test } from '@jest/globals';

import { programOf } from '../../../src/control/machine-program.js';
import type { FromProgram } from '../../../src/guest/program.js';
import { settled } from '../../support/fake-clock.js';
import { within } from '../../support/wait.js';

function setUp() {
  const [output, input] = [new PassThrough(), new PassThrough().resume()];
  const program = programOf({
    ...{ output, input, kill: () => Promise.resolve() },
    ended: Promise.resolve({ poweredOff: true, how: 'it was powered off' }),
  });
  const messages = program.messages[Symbol.asyncIterator]();
  const next = async (): Promise<FromProgram> =>
    (await within('a message', messages.next())).value as FromProgram;
  return { output, program, next };
}

test('a machine that takes input while its last message is passed on says so', async () => {
  const { program, next } = setUp();
  program.send({ kind: 'input', bytes: Buffer.from('one') });
  expect(await next()).toEqual({ kind: 'taken', count: 3 });
  program.send({ kind: 'input', bytes: Buffer.from('more') });
  await settled();
  expect(await next()).toEqual({ kind: 'taken', count: 4 });
});

test('a machine that ends while its last message is passed on has ended', async () => {
  const { output, program, next } = setUp();
  program.send({ kind: 'input', bytes: Buffer.from('one') });
  expect(await next()).toEqual({ kind: 'taken', count: 3 });
  output.end().resume();
  await settled();
  expect(await next()).toEqual({ kind: 'exit', code: 0 });
});
