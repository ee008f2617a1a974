import { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';

import { beforeEach, expect, test } from '@jest/globals';

import { html } from '../../../src/page/html.js';
import { LivePages, type Picture } from '../../../src/page/live.js';
import { LiveStream } from '../../../src/page/streams.js';
import { FakeClock, settled } from '../../support/fake-clock.js';

/** The reader's side of a stream, who may stop reading. */
class FakeResponse extends EventEmitter {
  readonly sent: string[] = [];
  reads = true;
  writableEnded = false;

  write(text: string): boolean {
    this.sent.push(text);
    return this.reads;
  }

  end(): void {
    this.writableEnded = true;
    this.emit('close');
  }

  destroy(): void {
    this.emit('close');
  }

  get events(): string[] {
    return this.sent.flatMap((text) => /^event: (.*)$/m.exec(text)?.[1] ?? []);
  }
}

let clock: FakeClock;
let pages: LivePages;
let picture: Picture;
let rendered: number;

beforeEach(() => {
  clock = new FakeClock();
  pages = new LivePages(clock);
  rendered = 0;
  picture = pictureOf('one', 'still');
});

function pictureOf(text: string, state: Picture['state']): Picture {
  return {
    title: 'Drover',
    state,
    sections: new Map([
      ['a', html`${text}`],
      ['b', html`same`],
    ]),
  };
}

function join(response = new FakeResponse()): FakeResponse {
  const stream = new LiveStream(response as unknown as ServerResponse, clock);
  pages.join('live', stream, () => {
    rendered += 1;
    return Promise.resolve(picture);
  });
  return response;
}

test('a page is rendered once for all of its readers, who get only what has changed', async () => {
  const [one, other] = [join(), join()];
  await clock.advance(0);
  expect(rendered).toBe(1);
  picture = pictureOf('two', 'still');
  for (let i = 0; i < 10; i++) pages.changed();
  await clock.advance(250);
  expect(rendered).toBe(2);
  for (const reader of [one, other]) {
    expect(reader.events).toEqual(['section', 'section', 'title', 'section']);
    expect(reader.sent.at(-1)).toContain('"markup":"two"');
  }
});

test('a page that moves is rendered every second, and no longer when its last reader has gone', async () => {
  picture = pictureOf('one', 'moving');
  const reader = join();
  await clock.advance(3_000);
  expect(rendered).toBe(4);
  reader.destroy();
  await clock.advance(60_000);
  expect(rendered).toBe(4);
  expect(clock.pendingTimers).toBe(0);
});

test('a reader who is behind misses pictures, gets the newest later, and is cut off in the end', async () => {
  const reader = join();
  await clock.advance(0);
  reader.reads = false;
  picture = pictureOf('two', 'still');
  pages.changed();
  await clock.advance(250);
  picture = pictureOf('three', 'still');
  pages.changed();
  await clock.advance(250);
  expect(reader.sent.join('')).not.toContain('three');
  reader.reads = true;
  reader.emit('drain');
  await settled();
  await clock.advance(250);
  expect(reader.sent.at(-1)).toContain('three');
  reader.reads = false;
  picture = pictureOf('four', 'still');
  pages.changed();
  let gone = false;
  reader.once('close', () => (gone = true));
  await clock.advance(15_250);
  expect(gone).toBe(true);
});

test('a page that has ended, or cannot be rendered, ends its streams', async () => {
  picture = pictureOf('last', 'ended');
  const reader = join();
  await clock.advance(0);
  expect(reader.events.at(-1)).toBe('end');
  expect(reader.writableEnded).toBe(true);
  const response = new FakeResponse();
  const stream = new LiveStream(response as unknown as ServerResponse, clock);
  pages.join('other', stream, () => Promise.reject(new Error('forgotten')));
  await clock.advance(0);
  await settled();
  expect(response.events).toEqual(['end']);
});

test('waiting for a slow reader again and again leaves no listeners behind', async () => {
  const response = new FakeResponse();
  const stream = new LiveStream(response as unknown as ServerResponse, clock);
  const before = response.listenerCount('close') + response.listenerCount('drain');
  for (let i = 0; i < 20; i++) {
    response.reads = false;
    stream.send('log', {});
    const drained = stream.drained();
    response.emit('drain');
    await drained;
  }
  expect(response.listenerCount('close') + response.listenerCount('drain')).toBe(before);
  stream.send('log', {});
  const drained = stream.drained();
  response.destroy();
  await drained;
  expect(clock.pendingTimers).toBe(0);
});

test('a quiet stream shows a sign of life', async () => {
  const reader = join();
  await clock.advance(31_000);
  expect(reader.sent.filter((text) => text === ':\n\n').length).toBe(2);
});
