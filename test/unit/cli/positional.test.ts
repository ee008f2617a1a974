import { expect, test } from '@jest/globals';
import { Command } from 'commander';

import { separateProgram } from '../../../src/cli/positional.js';

const program = new Command('drover').option('--config <file>');
program.command('run').option('--bind <dir>').option('--json');
program.command('logs').option('-f');

test.each([
  ['run ./a -x --bind b', 'run -- ./a -x --bind b'],
  ['--config f run --bind d --json ./a --json', '--config f run --bind d --json -- ./a --json'],
  ['run --bind=d ./a', 'run --bind=d -- ./a'],
  ['run --json -- ./a -x', 'run --json -- ./a -x'],
  ['run', 'run'],
  ['run --bind', 'run --bind'],
  ['logs run -f', 'logs run -f'],
])('reads %j as %j', (given, expected) => {
  expect(separateProgram(given.split(' '), program, 'run')).toEqual(expected.split(' '));
});
