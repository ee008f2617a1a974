import { rm, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import {
  guestFiles,
  makeGuestKeys,
  type GuestFacts,
  type GuestKeys,
} from '../../src/drivers/vm/guest-files.js';
import { guestNixConf } from '../../src/drivers/guest-nix-conf.js';
import { guestMachineArguments } from '../../src/drivers/qemu/arguments.js';
import { configDisk } from '../../src/drivers/qemu/config-disk.js';
import { Inheritance, inheritMachine, pipeOf } from '../../src/drivers/qemu/machine.js';
import { makeScratchDisk } from '../../src/drivers/scratch-disk.js';
import { SshChannel } from '../../src/guest/ssh-channel.js';
import type { Child } from '../../src/lib/child.js';
import type { VmKind } from '../vms.js';
import { JOBS } from './contender.js';

const BOOT_TIMEOUT_MS = 100_000;
/** A guest number that Drover does not use, for the user that QEMU runs as. */
const NUMBER = 999_999;

export interface MachineOptions {
  readonly dir: string;
  readonly cores: number;
  readonly facts: Omit<GuestFacts, 'scratchBytes' | 'network'>;
  /** The share `nix-store`; undefined: none. */
  readonly store?: (inherited: Inheritance) => number;
  /** Further arguments of QEMU. */
  readonly more: (inherited: Inheritance) => readonly string[];
  /** Words before its whole command. */
  readonly before?: readonly string[];
}

/** A VM like Drover's guests, down to the arguments of QEMU, and a connection to its sshd. */
export interface VmMachine {
  readonly keys: GuestKeys;
  readonly qemu: Child;
  readonly ssh: SshChannel;
}

/** Boots a VM that Drover does not know. @throws when its sshd does not answer */
export async function startMachine(kind: VmKind, options: MachineOptions): Promise<VmMachine> {
  await rm(options.dir, { recursive: true, force: true });
  await mkdir(options.dir, { recursive: true, mode: 0o700 });
  const keys = makeGuestKeys();
  const { qemu, sshPort } = await startQemu(kind, keys, options);
  try {
    sshPort.write('drover\n');
    const ssh = await SshChannel.connect({
      stream: sshPort,
      hostKey: keys.host.publicKey,
      clientKey: keys.client.privateKey,
      signal: AbortSignal.timeout(BOOT_TIMEOUT_MS),
    });
    return { keys, qemu, ssh };
  } catch (error) {
    await qemu.kill();
    throw error;
  }
}

async function startQemu(kind: VmKind, keys: GuestKeys, options: MachineOptions) {
  const { image, programs, accelerator, memoryBytes, scratchBytes } = kind;
  const { dir, cores, more, store, before } = options;
  const [config, scratch] = [join(dir, 'config.tar'), join(dir, 'scratch')];
  const nixConf = guestNixConf({
    cores: 0,
    maxJobs: JOBS,
    features: [],
    extraPlatforms: image.systems.slice(1),
    nixVersion: image.nixVersion,
    shell: image.shell,
    extra: {},
  });
  const facts = { ...options.facts, scratchBytes, network: 'host' } as const;
  const { generation, nixVersion, protocol, systems } = image;
  const manifest = { generation, nixVersion, protocol, systems };
  await writeFile(config, configDisk(guestFiles({ facts, nixConf, manifest, keys })), { mode: 0o600 });
  await makeScratchDisk(scratch, scratchBytes);
  using inherited = new Inheritance();
  const descriptors = {
    store: store?.(inherited),
    configDisk: await inherited.file(config, 'r'),
    scratchDisk: await inherited.file(scratch, 'r+'),
    sshPort: inherited.pipe(),
  };
  const machine = { image, accelerator, cores, memoryBytes, commandLine: image.commandLine };
  const bare = await inheritMachine(inherited, programs, machine);
  const args = guestMachineArguments({ ...bare, ...descriptors, name: facts.name, network: 'none' });
  const qemu = await inherited.start(programs, [...args, ...more(inherited)], NUMBER, before);
  for (const stream of [qemu.process.stdout, qemu.process.stderr]) stream?.resume();
  const sshPort = pipeOf(qemu.process, descriptors.sshPort);
  sshPort.on('error', () => undefined);
  return { qemu, sshPort };
}
