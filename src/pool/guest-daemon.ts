import { WorkerClient } from '../daemon/worker-client.js';
import type { GuestDriver, RunningGuest } from '../guest/driver.js';

/** Has a guest do some work. Rejects if it cannot; closes its connections when the signal aborts. */
export type Work = (running: RunningGuest, driver: GuestDriver, signal: AbortSignal) => Promise<void>;

/** Shakes hands with the guest's nix-daemon, as every build does first. */
export async function withDaemon(
  running: RunningGuest,
  { manifest: { protocol } }: GuestDriver,
  signal: AbortSignal,
  use: (client: WorkerClient) => Promise<void>,
): Promise<void> {
  const stream = await running.openDaemon();
  const close = (): void => void stream.destroy();
  signal.addEventListener('abort', close, { once: true });
  if (signal.aborted) close();
  try {
    const version = { ...protocol, features: new Set(protocol.features) };
    const client = await WorkerClient.connect(stream, version, 'The nix-daemon of a guest');
    await use(client);
    client.channel.destroy();
  } finally {
    close();
    signal.removeEventListener('abort', close);
  }
}
