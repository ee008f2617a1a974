import { readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { parse, stringify } from 'yaml';

import { startDrover, type Drover, type LogLine, type StartOptions } from './drover.js';
import { processes } from './guests.js';
import { IMAGES, QEMU_DIR } from './requirements.js';
import { waitUntil } from './wait.js';

/**
 * Time limit for a boot and a little work in an emulated guest, in milliseconds: enough on a machine that is ten times
 * slower, and for a boot that is tried twice.
 */
export const VM_DEADLINE_MS = 600_000;

/** Guests that are VMs, whatever the host could run faster. */
export const VM_CONFIG = {
  driver: 'qemu',
  guest: { accelerator: 'tcg', memory: '1GiB', scratchSize: '4GiB' },
  pool: { bootTimeout: '200s', idleTimeout: '30m' },
} as const;

/** The images of scripts/test-inputs.sh. */
export type TestImage = 'x86_64' | 'aarch64' | 'x86_64-emulating';

export function manifestOf(image: TestImage): string {
  return join(IMAGES, image, 'manifest.json');
}

export interface StartVmOptions extends Omit<StartOptions, 'config'> {
  readonly image?: TestImage;
  readonly guest?: Readonly<Record<string, unknown>>;
  readonly pool?: Readonly<Record<string, unknown>>;
}

/** Starts a supervisor whose guests are VMs. */
export async function startVmDrover(options: StartVmOptions = {}): Promise<Drover> {
  const { image = 'x86_64', guest, pool, env, ...rest } = options;
  return await startDrover({
    ...rest,
    env: { PATH: `${QEMU_DIR}:${process.env['PATH'] ?? ''}`, ...env },
    config: {
      ...VM_CONFIG,
      guest: { ...VM_CONFIG.guest, image: manifestOf(image), ...guest },
      pool: { ...VM_CONFIG.pool, ...pool },
    },
  });
}

/** Settings under which a derivation with `__noChroot` runs as root of the guest, outside of the sandbox. */
export const ROOT_BUILDS = { nixConf: { sandbox: 'relaxed', 'build-users-group': '' } };

/** The processes of one kind that belong to a guest, those that they have started included. */
export async function processesOf(
  stateDir: string,
  guest: string,
  program: 'qemu-system' | 'virtiofsd',
): Promise<number[]> {
  const within = new RegExp(`${stateDir}/guests/${guest}[/ ]`);
  return await waitUntil(`${program} of ${guest}`, async () => {
    const found = (await processes())
      .filter(({ command }) => command.includes(program) && within.test(command))
      .map(({ pid }) => pid);
    return found.length > 0 ? found : undefined;
  });
}

/** The only guest of a supervisor: the first one, unless its boot has failed and another one took its place. */
export async function onlyGuest(drover: Drover): Promise<string> {
  const { guests } = await drover.status();
  const [guest] = guests;
  if (guest === undefined || guests.length > 1)
    throw new Error(`there is not one guest: ${JSON.stringify(guests)}`);
  return guest.id;
}

/**
 * How a guest was lost, as the supervisor logs it. Its client may be told no more than that its nix-daemon ended, where
 * that is seen much earlier.
 */
export async function lossOf(drover: Drover, guest: string): Promise<unknown> {
  const isLoss = (line: LogLine): boolean =>
    line.msg === 'guest lost' && line['guest'] === guest && 'how' in line;
  return (await waitUntil(`the loss of ${guest}`, () => drover.log.find(isLoss)))['how'];
}

/**
 * Shortens the idle timeout, and waits for the end of the last guest. A short timeout from the start could end a guest
 * between two builds of one client.
 */
export async function endByIdleness(drover: Drover): Promise<void> {
  const config = parse(await readFile(drover.configFile, 'utf8')) as Readonly<Record<string, object>>;
  const pool = { ...config['pool'], idleTimeout: '1s' };
  // At once: the supervisor would read half of a file that is being written.
  await writeFile(`${drover.configFile}.new`, stringify({ ...config, pool }));
  await rename(`${drover.configFile}.new`, drover.configFile);
  await drover.waitForLog('configuration reloaded');
  await waitUntil('the end of the last guest', async () => (await drover.status()).guests.length === 0);
}

/** Number of open descriptors of a process. */
export async function openDescriptors(pid: number): Promise<number> {
  return (await readdir(`/proc/${pid}/fd`)).length;
}
