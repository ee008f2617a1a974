import { createRequire } from 'node:module';
import type { Server, Socket } from 'node:net';

interface Native {
  peerUid(fd: number): number;
  duplicate(fd: number): number;
  descriptorLimit(): number;
}

let loaded: Native | undefined;

/** Built from connect/drover-native.c. The path is the same file seen from `src/lib` and from `dist/lib`. */
function native(): Native {
  return (loaded ??= createRequire(import.meta.url)('../../dist/native.node') as Native);
}

/**
 * Effective uid of the process that connected a Unix socket.
 * @throws if the socket is closed
 */
export function peerUid(socket: Socket): number {
  return native().peerUid(descriptorOf(socket));
}

/** Another descriptor of a listening socket, for the caller to close: it stays open when the server is closed. */
export function duplicateListener(server: Server): number {
  return native().duplicate(descriptorOf(server));
}

/** Number of descriptors that this process may have open. */
export function descriptorLimit(): number {
  return native().descriptorLimit();
}

/** Node has no public name for it. -1 where there is none. */
function descriptorOf(holder: Socket | Server): number {
  const { _handle: handle } = holder as unknown as { readonly _handle?: { readonly fd?: number } | null };
  return handle?.fd ?? -1;
}
