import { expect, test } from '@jest/globals';

import { DroverError, errorCode, errorMessage } from '../../../src/lib/errors.js';

test.each([
  ['a Drover error', new DroverError('BOOT_FAILED', 'no'), 'BOOT_FAILED'],
  ['one of Node', Object.assign(new Error('no'), { code: 'ENOENT' }), 'ENOENT'],
  ['a number for a code', Object.assign(new Error('no'), { code: 7 }), undefined],
  ['an error without a code', new Error('no'), undefined],
  ['no error at all', 'no', undefined],
  ['nothing', null, undefined],
])('the code of %s', (_, error, code) => {
  expect(errorCode(error)).toBe(code);
});

test.each([
  ['an error', new Error('no'), 'no'],
  ['its cause', new Error('no', { cause: new Error('disk full') }), 'no: disk full'],
  ['a cause that it names', new Error('no: disk full', { cause: new Error('disk full') }), 'no: disk full'],
  ['causes of causes', new Error('a', { cause: new Error('b', { cause: 'c' }) }), 'a: b: c'],
  ['an error from another realm', { message: 'no' }, 'no'],
  ['no error at all', 7, '7'],
  ['nothing', undefined, 'undefined'],
])('the message of %s', (_, error, message) => {
  expect(errorMessage(error)).toBe(message);
});

test('a Drover error has a cause only if it was given one', () => {
  expect('cause' in new DroverError('NO_LEASE', 'a')).toBe(false);
  expect(new DroverError('NO_LEASE', 'a', { cause: undefined })).toHaveProperty('cause', undefined);
  expect(new DroverError('NO_LEASE', 'a', { hint: 'try', context: { n: 1 } })).toMatchObject({
    hint: 'try',
    context: { n: 1 },
  });
});

test('no text of an error reaches a terminal as it came', () => {
  const error = new DroverError('BOOT_FAILED', 'a\u001b[2J\nb', { hint: '\u0007' });
  expect(error.message).toBe('a\\u001b[2J\nb');
  expect(error.hint).toBe('\\u0007');
  expect(errorMessage(new Error('\u001bc', { cause: '\u009b' }))).toBe('\\u001bc: \\u009b');
});
