import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { expect, test } from '@jest/globals';
import ssh2, { type Client, type Connection } from 'ssh2';

import { SshChannel } from '../../src/guest/ssh-channel.js';
import { systemClock, type Clock } from '../../src/lib/clock.js';
import { makeSshKeyPair } from '../../src/lib/ssh-key.js';
import { FakeClock } from '../support/fake-clock.js';
import { Message, sendPacket, sshString, uint32 } from '../support/raw-ssh.js';
import { waitUntil } from '../support/wait.js';

/** No divisor of a window: ssh2 takes no more once it is exactly used up, but anything once it is overdrawn. */
const PACKET_BYTES = 30_000;

test("a guest's sshd that sends more than a reader has asked for is cut off", async () => {
  let sentBytes = 0;
  let ended: Promise<unknown> | undefined;
  /** Sends whatever the connection takes, whether or not there is room in the window. */
  const flood = (guest: Connection, socket: NodeJS.WritableStream): void => {
    if (!socket.writable) return;
    for (let i = 0; i < 32; i++) {
      sendPacket(
        guest as unknown as Client,
        Message.channelData,
        uint32(0),
        sshString(Buffer.alloc(PACKET_BYTES)),
      );
      sentBytes += PACKET_BYTES;
    }
    if (sentBytes < 1024 ** 3)
      socket.once('drain', () => {
        flood(guest, socket);
      });
  };
  const serve = (guest: Connection, socket: Socket): void => {
    ended = new Promise((resolve) => socket.once('close', resolve));
    guest.on('openssh.streamlocal', (accept) => {
      accept();
      flood(guest, socket);
    });
  };
  await withGuest(serve, async (channel) => {
    const stream = await channel.openSocket('/daemon');
    stream.on('error', () => undefined);
    expect(await channel.closed).toBe('it sends more than it was asked for');
    await ended;
    expect(sentBytes).toBeLessThan(64 * 1024 ** 2);
    expect(stream.readableLength).toBeLessThan(8 * 1024 ** 2);
  });
});

test('a guest hangs when nothing at all comes from it for 12 s', async () => {
  const clock = new FakeClock();
  let say: (word: string) => void = () => undefined;
  const serve = (guest: Connection): void => {
    guest.on('openssh.streamlocal', (accept) => {
      const stream = accept();
      say = (word) => void stream.write(word);
      say('hello');
    });
  };
  await withGuest(
    serve,
    async (channel) => {
      const stream = await channel.openSocket('/daemon');
      for (let seconds = 0; seconds < 40; seconds += 8) {
        expect(String((await once(stream, 'data'))[0])).toMatch(/hello|still here/);
        await clock.advance(8_000);
        say('still here');
      }
      // It answers keepalives, which are sent in real time.
      let how: string | undefined;
      void channel.closed.then((why) => (how = why));
      await waitUntil('the end', async () => {
        await clock.advance(12_000);
        return how;
      });
      expect(how).toBe('it has not answered for 12 s');
    },
    clock,
  );
});

/** Connects to a guest's sshd that answers channels so. */
async function withGuest(
  serve: (guest: Connection, socket: Socket) => void,
  use: (channel: SshChannel) => Promise<void>,
  clock: Clock = systemClock,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'drover-sshd-'));
  const [host, client] = [makeSshKeyPair(), makeSshKeyPair()];
  const sshd = new ssh2.Server({ hostKeys: [host.privateKey] });
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    sshd.once('connection', (guest) => {
      guest.on('error', () => undefined);
      guest.on('authentication', (context) => {
        context.accept();
      });
      serve(guest, socket);
    });
    sshd.injectSocket(socket);
  });
  const path = join(directory, 's');
  await once(server.listen(path), 'listening');
  try {
    const channel = await SshChannel.connect({
      stream: connect(path),
      hostKey: host.publicKey,
      clientKey: client.privateKey,
      signal: AbortSignal.timeout(30_000),
      clock,
    });
    await use(channel).finally(() => {
      channel.destroy();
    });
  } finally {
    server.close();
    await rm(directory, { recursive: true });
  }
}

test("a guest's sshd that goes on after the end of an output ends nothing by that", async () => {
  const serve = (guest: Connection): void => {
    const send = (...parts: (Buffer | number)[]): void => {
      sendPacket(guest as unknown as Client, ...parts);
    };
    const overrun = (number: number): void => {
      send(Message.channelEof, uint32(number));
      send(Message.channelExtendedData, uint32(number), uint32(1), sshString('more'));
    };
    let count = 0;
    guest.on('session', (accept) => {
      accept().on('exec', (acceptExec) => {
        const output = acceptExec();
        overrun(count++);
        output.exit(3);
        output.close();
      });
    });
  };
  await withGuest(serve, async (channel) => {
    expect((await channel.exec(['true'])).exitCode).toBe(3);
    const program = await channel.start({ argv: ['true'], terminal: undefined });
    const last: string[] = [];
    for await (const { kind } of program.messages) last[0] = kind;
    expect(last).toEqual(['exit']);
  });
});

test('a connection to a guest keeps nothing of a stream that has ended', async () => {
  const serve = (guest: Connection): void => {
    guest.on('openssh.streamlocal', (accept) => {
      accept().end();
    });
  };
  await withGuest(serve, async (channel) => {
    const openAndEnd = async (): Promise<WeakRef<object>> => {
      const stream = await channel.openSocket('/daemon');
      const closed = once(stream, 'close');
      stream.resume().end();
      await closed;
      return new WeakRef(stream);
    };
    const streams: WeakRef<object>[] = [];
    for (let count = 0; count < 20; count++) streams.push(await openAndEnd());
    setFlagsFromString('--expose-gc');
    const collectGarbage = runInNewContext('gc') as () => void;
    await new Promise(setImmediate);
    collectGarbage();
    // The last ones may still be on the stack, or in the parser of the connection.
    expect(streams.filter((stream) => stream.deref() !== undefined).length).toBeLessThan(5);
  });
});
