import { connect } from 'node:net';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';

import { FUZZ_CASES, FUZZ_SEED, mutated, pieces, random } from '../../support/fuzz.js';
import { Message, sendPacket, sshClient, sshString, uint32 } from '../../support/raw-ssh.js';
import { describeWith } from '../../support/requirements.js';
import { SshBench } from '../../support/ssh.js';
import { waitUntil, within } from '../../support/wait.js';

/** Messages of a client before encryption: identification, KEXINIT, and the first half of the exchange. */
const names = [
  'curve25519-sha256,ext-info-c,kex-strict-c-v00@openssh.com',
  'ssh-ed25519',
  ...['aes128-gcm@openssh.com', 'aes128-gcm@openssh.com', 'hmac-sha2-256', 'hmac-sha2-256'],
  ...['none', 'none', '', ''],
];
const packet = (payload: Buffer): Buffer => {
  const padding = 8 - ((payload.length + 5) % 8) + 8;
  return Buffer.concat([
    uint32(payload.length + padding + 1),
    Buffer.from([padding]),
    payload,
    Buffer.alloc(padding),
  ]);
};
const GREETING = Buffer.concat([
  Buffer.from('SSH-2.0-OpenSSH_9.2\r\n'),
  packet(Buffer.concat([Buffer.from([20]), Buffer.alloc(16, 7), ...names.map(sshString), Buffer.alloc(5)])),
  packet(Buffer.concat([Buffer.from([30]), sshString(Buffer.alloc(32, 9))])),
]);

/** Payloads of a client that has logged in. */
const MESSAGES = [
  Buffer.concat([
    Buffer.from([Message.channelOpen]),
    sshString('session'),
    uint32(0),
    uint32(2 ** 21),
    uint32(32_768),
  ]),
  Buffer.concat([
    Buffer.from([Message.channelRequest]),
    uint32(0),
    sshString('exec'),
    Buffer.from([1]),
    sshString('nix-daemon --stdio'),
  ]),
  Buffer.concat([Buffer.from([Message.channelRequest]), uint32(0), sshString('shell'), Buffer.from([1])]),
  Buffer.concat([
    Buffer.from([Message.channelRequest]),
    uint32(0),
    sshString('env'),
    Buffer.from([1]),
    sshString('A'),
    sshString('b'),
  ]),
  Buffer.concat([Buffer.from([Message.channelData]), uint32(0), sshString('cxin and more')]),
  Buffer.concat([Buffer.from([93]), uint32(0), uint32(2 ** 31)]),
  Buffer.concat([Buffer.from([96]), uint32(0)]),
  Buffer.concat([Buffer.from([97]), uint32(0)]),
  Buffer.concat([
    Buffer.from([Message.globalRequest]),
    sshString('tcpip-forward'),
    Buffer.from([1]),
    sshString('::'),
    uint32(1),
  ]),
  Buffer.concat([Buffer.from([50]), sshString('u'), sshString('ssh-connection'), sshString('none')]),
];

describeWith(`the ssh door with mutated clients (seed ${FUZZ_SEED})`, ['ssh', 'dist'], () => {
  test('no stranger ends its process', async () => {
    await using bench = await SshBench.start();
    const { pid } = bench.door;
    const next = random(FUZZ_SEED);
    for (let index = 0; index < FUZZ_CASES; index++) {
      const socket = connect(bench.door.port, '127.0.0.1')
        .on('error', () => undefined)
        .resume();
      const closed = new Promise<void>((resolve) =>
        socket.once('close', () => {
          resolve();
        }),
      );
      for (const piece of pieces(mutated(GREETING, next), next)) socket.write(piece);
      if (next(2) === 0)
        socket.end(() => {
          socket.destroy();
        });
      else setImmediate(() => socket.destroy());
      await within('the end of the connection', closed);
    }
    expect((await bench.ssh([...bench.args(), 'true'])).exitCode).toBe(127);
    expect(bench.door.pid).toBe(pid);
  });

  test('no client with a key ends its process', async () => {
    await using bench = await SshBench.start();
    const { pid } = bench.door;
    const next = random(FUZZ_SEED + 1);
    let client = await sshClient(bench.door.port, join(bench.dir, 'listed'));
    let isOpen = false;
    let sent = 0;
    for (let index = 0; index < FUZZ_CASES; index++) {
      if (!isOpen || next(20) === 0) {
        client.destroy();
        client = await sshClient(bench.door.port, join(bench.dir, 'listed'));
        isOpen = true;
        client.on('close', () => (isOpen = false));
      }
      const message = MESSAGES[next(MESSAGES.length)] ?? Buffer.alloc(1);
      try {
        sendPacket(client, next(3) === 0 ? message : mutated(message, next));
        sent += 1;
      } catch {
        // The door has cut it off.
        isOpen = false;
      }
    }
    client.destroy();
    expect(sent).toBeGreaterThan(0);
    expect((await bench.ssh([...bench.args(), 'true'])).exitCode).toBe(127);
    expect(bench.door.pid).toBe(pid);
    await waitUntil('the end of all sessions', () => bench.bench.front.sessions === 0);
  });
});
