import type { Connection } from 'ssh2';

/**
 * Algorithms of clients' signatures that are accepted, with the type of their keys. SHA-1 (`ssh-rsa`) is not among
 * them.
 */
export const SIGNATURE_ALGORITHMS: ReadonlyMap<string, { readonly type: string; readonly hash?: string }> =
  new Map([
    ['ssh-ed25519', { type: 'ssh-ed25519' }],
    ['ecdsa-sha2-nistp256', { type: 'ecdsa-sha2-nistp256' }],
    ['ecdsa-sha2-nistp384', { type: 'ecdsa-sha2-nistp384' }],
    ['ecdsa-sha2-nistp521', { type: 'ecdsa-sha2-nistp521' }],
    ['rsa-sha2-512', { type: 'ssh-rsa', hash: 'sha512' }],
    ['rsa-sha2-256', { type: 'ssh-rsa', hash: 'sha256' }],
  ]);

/** Message number of SSH_MSG_EXT_INFO: RFC 8308. */
const EXT_INFO = 7;

/** The part of ssh2 that finishes outgoing packets. */
interface PacketWriter {
  readonly allocStart: number;
  alloc(payloadBytes: number): Buffer;
  finalize(packet: Buffer, force?: boolean): Buffer;
}

/**
 * Has ssh2 announce the algorithms that are accepted. Its own list (1.17) offers SHA-1 and DSA, and lacks a comma, so
 * that it names neither nistp521 nor rsa-sha2-512. There is no option for it, and the packet is encrypted when it
 * leaves ssh2, so it is exchanged inside. If an ssh2 without this writer comes, its own list goes out, and a test says
 * so.
 */
export function announceSignatureAlgorithms(connection: Connection): void {
  const { _protocol: protocol } = connection as unknown as {
    readonly _protocol?: { readonly _packetRW?: { write: unknown } };
  };
  const writers = protocol?._packetRW;
  if (writers === undefined) return;
  // There is another writer as soon as packets are encrypted. The first of those is the one in question.
  let current = writers.write;
  Object.defineProperty(writers, 'write', {
    configurable: true,
    get: () => current,
    set: (writer: unknown) => {
      current = writer;
      if (isPacketWriter(writer)) exchangeExtInfo(writer);
    },
  });
}

function exchangeExtInfo(writer: PacketWriter): void {
  const finalize = writer.finalize.bind(writer);
  writer.finalize = (packet, force) => {
    if (force === true || packet[writer.allocStart] !== EXT_INFO) return finalize(packet, force);
    writer.finalize = finalize;
    const payload = extInfo();
    const own = writer.alloc(payload.length);
    own.set(payload, writer.allocStart);
    return finalize(own);
  };
}

function isPacketWriter(value: unknown): value is PacketWriter {
  const writer = value as Partial<PacketWriter> | undefined;
  return (
    typeof writer?.finalize === 'function' &&
    typeof writer.alloc === 'function' &&
    typeof writer.allocStart === 'number'
  );
}

function extInfo(): Buffer {
  const string = (text: string): Buffer => Buffer.concat([uint32(text.length), Buffer.from(text)]);
  const algorithms = [...SIGNATURE_ALGORITHMS.keys()].join(',');
  return Buffer.concat([Buffer.from([EXT_INFO]), uint32(1), string('server-sig-algs'), string(algorithms)]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
