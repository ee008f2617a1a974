import { expect, test } from '@jest/globals';

import { Channel } from '../../../src/daemon/channel.js';
import { HeldRequests } from '../../../src/front/held-requests.js';
import { string } from '../../../src/protocol/wire.js';
import { WireWriter } from '../../../src/protocol/wire-writer.js';
import { connectedPair } from '../../support/connected-pair.js';
import { settled } from '../../support/fake-clock.js';
import { HOST_CLIENT, STRANGER } from '../../support/front-bench.js';

const MIB = 1024 * 1024;

test('one client can make Drover hold 256 MiB of large requests, whatever other clients do', () => {
  const requests = new HeldRequests();
  const [first, second, other] = [
    requests.session(STRANGER),
    requests.session(STRANGER),
    requests.session({ ...STRANGER, domain: 'key:other' }),
  ];
  first?.(200 * MIB);
  expect(() => second?.(57 * MIB)).toThrow('256 MiB');
  second?.(MIB);
  second?.(56 * MIB);
  other?.(256 * MIB);
  // The first request was answered.
  first?.(0);
  second?.(256 * MIB);
});

test('a trusted client is not limited', () => {
  expect(new HeldRequests().session(HOST_CLIENT)).toBeUndefined();
});

test('a channel tells how much it holds of a message as it comes, and nothing of the message before', async () => {
  const [near, far] = connectedPair();
  const held: number[] = [];
  const channel = new Channel(far, { hold: (bytes) => held.push(bytes) });
  const message = new WireWriter().string('x'.repeat(20)).finish();
  for (let time = 0; time < 2; time++) {
    const received = channel.run(string());
    near.write(message.subarray(0, 16));
    await settled();
    near.write(message.subarray(16));
    expect(await received).toBe('x'.repeat(20));
  }
  expect(held).toEqual([0, 0, 16, 0, 0, 16]);
  channel.destroy();
});

test('a channel holds nothing while it waits for a message', async () => {
  const [, far] = connectedPair();
  const held: number[] = [];
  const channel = new Channel(far, { hold: (bytes) => held.push(bytes) });
  const input = channel.waitForInput();
  expect(held).toEqual([0]);
  channel.destroy();
  expect(await input).toBe(false);
});

test('a channel reads no more of a message that is too large to hold', async () => {
  const [near, far] = connectedPair();
  const channel = new Channel(far, {
    hold: (bytes) => {
      if (bytes > 8) throw new Error('too much');
    },
  });
  near.write(new WireWriter().string('x'.repeat(20)).finish().subarray(0, 16));
  await expect(channel.run(string())).rejects.toThrow('too much');
  channel.destroy();
});
