import { lstat, unlink } from 'node:fs/promises';
import { connect, type Server } from 'node:net';

import { DroverError, errorCode } from './errors.js';

/** Removes a socket on which no process listens. */
export async function clearStaleSocket(path: string): Promise<void> {
  const answer = await new Promise<string | undefined>((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve('in use');
    });
    socket.once('error', (error) => {
      resolve(errorCode(error));
    });
  });
  if (answer === 'ENOENT') return;
  // A plain file refuses connections, too.
  if (answer === 'ECONNREFUSED' && (await lstat(path)).isSocket()) {
    await unlink(path);
    return;
  }
  throw new DroverError(
    'ADDRESS_IN_USE',
    answer === 'in use'
      ? `${path} is already in use by another process`
      : `${path} exists, and is not a socket`,
    {
      hint: 'Another supervisor may be running with the same stateDir: see `drover status`.',
      context: { path },
    },
  );
}

/** @throws DroverError `ADDRESS_IN_USE`, `ADDRESS_UNUSABLE` */
export async function listen(
  server: Server,
  ...where: [path: string] | [port: number, host: string]
): Promise<void> {
  const name = where.length === 1 ? where[0] : `${where[1]}:${where[0]}`;
  await new Promise<void>((resolve, reject) => {
    // It stays: if no more files can be opened, one connection fails, not the process.
    server.on('error', (cause) => {
      const code = errorCode(cause);
      reject(
        code === 'EADDRINUSE'
          ? new DroverError('ADDRESS_IN_USE', `${name} is already in use by another process`, {
              cause,
              hint: 'Stop that process, or choose another address in the configuration.',
            })
          : new DroverError('ADDRESS_UNUSABLE', `Cannot listen on ${name}`, {
              cause,
              hint: 'Choose an address of this host, such as 127.0.0.1, and a port that this user may open.',
            }),
      );
    });
    if (where.length === 1) server.listen(where[0], resolve);
    else server.listen(where[0], where[1], resolve);
  });
}

export async function closeServer(server: Server): Promise<void> {
  await new Promise<void>((resolve) => {
    server.close(() => {
      resolve();
    });
  });
}
