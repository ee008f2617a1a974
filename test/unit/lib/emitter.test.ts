import { expect, test } from '@jest/globals';

import { Emitter } from '../../../src/lib/emitter.js';

test('every listener hears every event until it is taken off', () => {
  const emitter = new Emitter<number>();
  const heard: string[] = [];
  const off = emitter.on((event) => heard.push(`a${event}`));
  emitter.on((event) => heard.push(`b${event}`));
  emitter.emit(1);
  off();
  off();
  emitter.emit(2);
  expect(heard).toEqual(['a1', 'b1', 'b2']);
});

test('an exception of a listener reaches only the handler', () => {
  const errors: unknown[] = [];
  const emitter = new Emitter<number>((error) => errors.push(error));
  const heard: number[] = [];
  emitter.on(() => {
    throw new Error('broken');
  });
  emitter.on((event) => heard.push(event));
  emitter.emit(1);
  expect(heard).toEqual([1]);
  expect(errors).toEqual([new Error('broken')]);
});

test('listeners added or removed while an event is emitted', () => {
  const emitter = new Emitter<number>();
  const heard: string[] = [];
  emitter.on((event) => {
    off();
    if (event === 1) emitter.on((later) => heard.push(`new${later}`));
  });
  const off = emitter.on((event) => heard.push(`old${event}`));
  emitter.emit(1);
  emitter.emit(2);
  expect(heard).toEqual(['new2']);
});
