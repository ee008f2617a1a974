import { createRequire } from 'node:module';
import type { Server, Socket } from 'node:net';

interface Native {
  peerUid(fd: number): number;
  duplicate(fd: number): number;
  descriptorLimit(): number;
  lookUpUser(name: string): [uid: number, gid: number] | undefined;
  setRaw(fd: number): void;
  setCooked(fd: number): void;
  renouncePrivileges(directory: string, uid: number, gid: number): void;
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

export interface UserIds {
  readonly uid: number;
  readonly gid: number;
}

/** Undefined if the system has no such user. */
export function lookUpUser(name: string): UserIds | undefined {
  const [uid, gid] = native().lookUpUser(name) ?? [];
  return uid === undefined || gid === undefined ? undefined : { uid, gid };
}

/**
 * Has a terminal pass every byte unchanged, both ways, which Node's own raw mode does not do with line feeds.
 * @returns a function that undoes it
 * @throws if the descriptor is no terminal
 */
export function makeTerminalRaw(fd: number): () => void {
  native().setRaw(fd);
  return () => {
    native().setCooked(fd);
  };
}

/**
 * Irrevocably switches this process to another user without groups, with `directory` as the file system's
 * root. On Linux it can no longer gain rights, start programs or open network sockets, and it ends with its
 * parent. A process that is not root keeps its user, and only changes to `directory`.
 * @throws if the system refuses
 */
export function renouncePrivileges(directory: string, { uid, gid }: UserIds): void {
  // To a number with a sign, as which the system takes them: `nobody` of macOS is -2.
  native().renouncePrivileges(directory, uid | 0, gid | 0);
}

/** Node has no public name for it. -1 where there is none. */
function descriptorOf(holder: Socket | Server): number {
  const { _handle: handle } = holder as unknown as { readonly _handle?: { readonly fd?: number } | null };
  return handle?.fd ?? -1;
}
