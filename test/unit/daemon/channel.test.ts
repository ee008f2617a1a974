import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { Duplex } from 'node:stream';

import { describe, expect, test } from '@jest/globals';

import { errorCode } from '../../../src/lib/errors.js';
import { connectUnixSocket } from '../../../src/lib/unix-socket.js';
import { Channel } from '../../../src/daemon/channel.js';
import type { Extent } from '../../../src/protocol/byte-queue.js';
import { string } from '../../../src/protocol/wire.js';
import { WireWriter } from '../../../src/protocol/wire-writer.js';
import { connectedPair } from '../../support/connected-pair.js';
import { FakeClock, settled } from '../../support/fake-clock.js';
import { waitUntil } from '../../support/wait.js';

/** The next `count` bytes. */
function first(count: number): Extent {
  let left = count;
  return {
    get complete() {
      return left === 0;
    },
    take: ({ length }) => {
      const taken = Math.min(left, length);
      left -= taken;
      return taken;
    },
  };
}

/** A stream that takes nothing, and closes without saying so in any other way: what an ssh2 channel does. */
class StuckStream extends Duplex {
  constructor() {
    super({ writableHighWaterMark: 1, emitClose: false });
  }
  override _read(): void {
    // Nothing ever comes.
  }
  override _write(): void {
    // Never done.
  }
}

async function codeOf(promise: Promise<unknown>): Promise<string | undefined> {
  return await promise.then(
    () => undefined,
    (error: unknown) => errorCode(error),
  );
}

describe('a channel', () => {
  test('removes its listeners after waiting for a slow peer', async () => {
    const [near, far] = connectedPair();
    const channel = new Channel(near);
    const before = near.eventNames().map((name) => near.listenerCount(name));
    far.resume();
    for (let i = 0; i < 50; i++) await channel.write(Buffer.alloc(100_000));
    expect(near.eventNames().map((name) => near.listenerCount(name))).toEqual(before);
  });

  test('stops waiting to write when the stream closes, even if the stream does not report it', async () => {
    const stream = new StuckStream();
    const channel = new Channel(stream);
    const blocked = codeOf(channel.write(Buffer.alloc(10)));
    stream.emit('close');
    expect(await blocked).toBe('PROTOCOL_TRUNCATED');
    expect(await codeOf(channel.write(Buffer.alloc(10)))).toBe('PROTOCOL_TRUNCATED');
  });

  test('is gone as soon as it is destroyed, whenever its stream notices', async () => {
    const channel = new Channel(new StuckStream());
    const read = channel.waitForInput();
    const blocked = codeOf(channel.write(Buffer.alloc(10)));
    channel.destroy();
    expect(channel.gone.aborted).toBe(true);
    expect([await read, await blocked]).toEqual([false, 'PROTOCOL_TRUNCATED']);
  });

  test('relays a stream with a reused read buffer unchanged, also to a slow peer', async () => {
    const dir = await mkdtemp('/tmp/drover-channel-');
    const bytes = randomBytes(8_000_003);
    const received: Buffer[] = [];
    const from = createServer((socket) => socket.end(bytes)).listen(join(dir, 'from'));
    const to = createServer({ highWaterMark: 1024 * 1024 }).listen(join(dir, 'to'));
    try {
      await Promise.all([once(from, 'listening'), once(to, 'listening')]);
      const source = new Channel(await connectUnixSocket(join(dir, 'from')));
      const peer = connect(join(dir, 'to'));
      peer.on('data', (chunk) => {
        received.push(chunk);
        peer.pause();
        setImmediate(() => peer.resume());
      });
      const [socket] = (await once(to, 'connection')) as [Socket];
      const sink = new Channel(socket);
      expect(await source.relayTo(sink, first(3_000_001))).toBe(3_000_001);
      // Some is taken as a message, and kept while more comes.
      const kept = Buffer.concat(await source.readSome(2_000_000));
      const rest = bytes.length - 3_000_001 - kept.length;
      expect(await source.relayTo(sink)).toBe(rest);
      await sink.write(kept);
      sink.end();
      await once(peer, 'end');
      const expected = Buffer.concat([bytes.subarray(0, 3_000_001), bytes.subarray(-rest), kept]);
      expect(Buffer.concat(received).equals(expected)).toBe(true);
    } finally {
      from.close();
      to.close();
      await rm(dir, { recursive: true });
    }
  });

  test('passes on what it has read whatever other streams read before it is written', async () => {
    const dir = await mkdtemp('/tmp/drover-channel-');
    const from = createServer().listen(join(dir, 'from'));
    const to = createServer({ highWaterMark: 1024 * 1024 }).listen(join(dir, 'to'));
    const opened: { destroy: () => unknown }[] = [];
    try {
      await Promise.all([once(from, 'listening'), once(to, 'listening')]);
      const open = async (): Promise<[Channel, Socket]> => {
        const accepted = once(from, 'connection');
        const channel = new Channel(await connectUnixSocket(join(dir, 'from')));
        const [far] = (await accepted) as [Socket];
        opened.push(channel, far);
        return [channel, far];
      };
      const [source, sender] = await open();
      const [other, otherSender] = await open();
      const accepted = once(to, 'connection');
      const peer = connect(join(dir, 'to')).pause();
      const [socket] = (await accepted) as [Socket];
      const sink = new Channel(socket);
      opened.push(peer, sink);
      const before = Buffer.alloc(900_000, 'before');
      await sink.write(before);
      const bytes = randomBytes(10_000);
      const relayed = source.relayTo(sink);
      sender.end(bytes);
      await waitUntil('the bytes that cannot be written yet', () => sink.sentBytes > before.length);
      otherSender.write(Buffer.alloc(10_000, 'x'));
      expect(await other.waitForInput()).toBe(true);
      const received: Buffer[] = [];
      peer.on('data', (chunk) => received.push(chunk)).resume();
      expect(await relayed).toBe(bytes.length);
      sink.end();
      await once(peer, 'end');
      expect(Buffer.concat(received).equals(Buffer.concat([before, bytes]))).toBe(true);
    } finally {
      for (const each of opened) each.destroy();
      from.close();
      to.close();
      await rm(dir, { recursive: true });
    }
  });

  test('reads no further ahead than it must', async () => {
    const [near, far] = connectedPair();
    const channel = new Channel(near);
    let sent = 0;
    for (let i = 0; i < 100 && far.write(Buffer.alloc(64 * 1024)); i++) {
      sent += 64 * 1024;
      await settled();
    }
    expect(sent).toBeLessThan(1024 * 1024);
    expect(channel.receivedBytes).toBeLessThan(1024 * 1024);
  });

  test('gives the peer time to read when closing, discards its input, and then destroys the stream', async () => {
    const clock = new FakeClock();
    const [near, far] = connectedPair();
    const channel = new Channel(near);
    await channel.write(Buffer.from('last words'));
    channel.close(clock);
    // The peer is not listening yet: it is sending more than fits on the way.
    for (let i = 0; i < 50; i++) {
      if (!far.write(Buffer.alloc(64 * 1024))) await once(far, 'drain');
    }
    const words: Buffer[] = [];
    far.on('data', (part: Buffer) => words.push(part));
    await settled();
    expect(Buffer.concat(words).toString()).toBe('last words');
    expect(near.destroyed).toBe(false);
    await clock.advance(5_000);
    expect(near.destroyed).toBe(true);
  });

  test('sets no timer when closing for a peer that ends at once', async () => {
    const clock = new FakeClock();
    const [near, far] = connectedPair();
    const channel = new Channel(near);
    far.resume();
    channel.close(clock);
    far.end();
    await once(near, 'close');
    expect(clock.pendingTimers).toBe(0);
  });

  test('limits the time of a peer only in the middle of a message', async () => {
    const clock = new FakeClock();
    const [near, far] = connectedPair();
    const channel = new Channel(near, { peer: 'The peer', stall: { clock, timeoutMs: 1_000 } });
    const text = new WireWriter().string('some text').finish();
    const idle = channel.waitForInput();
    await clock.advance(10_000);
    far.write(text.subarray(0, 9));
    await idle;
    const reading = channel.run(string());
    for (let at = 9; at < text.length; at++) {
      await clock.advance(900);
      far.write(text.subarray(at, at + 1));
      await settled();
    }
    expect(await reading).toBe('some text');
    expect(clock.pendingTimers).toBe(0);
    const stalled = codeOf(channel.run(string()));
    far.write(text.subarray(0, 4));
    await settled();
    await clock.advance(1_000);
    expect(await stalled).toBe('CLIENT_STALLED');
  });

  test('reads what has arrived before it blames a peer, also after it was stopped itself', async () => {
    const clock = new FakeClock();
    const [near, far] = connectedPair();
    const channel = new Channel(near, { peer: 'The peer', stall: { clock, timeoutMs: 1_000 } });
    const text = new WireWriter().string('some text').finish();
    const reading = channel.run(string());
    far.write(text.subarray(0, 9));
    await settled();
    // The timer comes first in a turn of the event loop, the bytes second.
    const late = clock.advance(1_000);
    far.write(text.subarray(9, 17));
    await late;
    await settled();
    // Stopped for a minute: the peer has its time again.
    clock.skip(60_000);
    await settled();
    far.write(text.subarray(17));
    expect(await reading).toBe('some text');
  });

  test('survives an error of its stream at any time', async () => {
    const [near] = connectedPair();
    const channel = new Channel(near, { peer: 'The peer' });
    const read = channel.run(string());
    near.destroy(new Error('ECONNRESET'));
    await expect(read).rejects.toMatchObject({
      message: 'The peer closed the connection in the middle of a message',
      cause: { message: 'ECONNRESET' },
    });
    near.emit('error', new Error('and again'));
  });
});
