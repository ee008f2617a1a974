import { once } from 'node:events';
import { readFile } from 'node:fs/promises';

import ssh2, { type Client } from 'ssh2';

/** Messages of RFC 4254 that tests write by hand. */
export const Message = {
  globalRequest: 80,
  channelOpen: 90,
  channelData: 94,
  channelExtendedData: 95,
  channelEof: 96,
  channelRequest: 98,
} as const;

/** The part of ssh2's client that writes a packet. */
interface Internals {
  readonly _protocol: {
    readonly _packetRW: {
      readonly write: {
        readonly allocStart: number;
        alloc(size: number): Buffer;
        finalize(packet: Buffer): Buffer;
      };
    };
    readonly _cipher: { encrypt(packet: Buffer): void };
  };
}

/** Connects and authenticates; errors after that are ignored, since tests look at the server. */
export async function sshClient(port: number, keyFile: string): Promise<Client> {
  const client = new ssh2.Client();
  const ready = once(client, 'ready');
  client.on('error', () => undefined);
  const privateKey = await readFile(keyFile);
  client.connect({ host: '127.0.0.1', port, username: 'x', privateKey, readyTimeout: 0 });
  await ready;
  return client;
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

export function sshString(value: string | Buffer): Buffer {
  return Buffer.concat([uint32(value.length), Buffer.from(value)]);
}

/** Sends a packet that ssh2's client would never send. */
export function sendPacket(client: Client, ...parts: readonly (Buffer | number)[]): void {
  const payload = Buffer.concat(parts.map((part) => (typeof part === 'number' ? Buffer.from([part]) : part)));
  const { _packetRW, _cipher } = (client as unknown as Internals)._protocol;
  const packet = _packetRW.write.alloc(payload.length);
  packet.set(payload, _packetRW.write.allocStart);
  _cipher.encrypt(_packetRW.write.finalize(packet));
}

/** Opens a session channel, which becomes the server's number `channel`, and sends it these requests. */
export function openSession(
  client: Client,
  channel: number,
  requests: readonly (readonly [type: string, data: string])[],
): void {
  sendPacket(
    client,
    Message.channelOpen,
    sshString('session'),
    uint32(channel),
    uint32(2 ** 21),
    uint32(32_768),
  );
  for (const [type, data] of requests)
    sendPacket(client, Message.channelRequest, uint32(channel), sshString(type), 1, sshString(data));
}
