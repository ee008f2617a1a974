import { rm } from 'node:fs/promises';
import type { Duplex } from 'node:stream';

import type { Child } from '../../lib/child.js';
import type { ConsoleLog } from '../../lib/console-log.js';
import type { GuestDir } from '../../lib/state-dir.js';
import { guestMachineArguments } from './arguments.js';
import { Inheritance, inheritMachine, pipeOf, type BareMachine } from './machine.js';
import type { QemuPrograms } from './programs.js';
import { startVirtiofsd, type SharedDirectory } from './virtiofsd.js';

/** A directory of the user that a machine can write. */
export interface UserShare {
  readonly directory: string;
  readonly owner: { readonly uid: number; readonly gid: number };
}

export interface PartsSpec {
  /** Different for each guest that runs. */
  readonly number: number;
  readonly programs: QemuPrograms;
  readonly machine: BareMachine;
  readonly network: 'host' | 'outbound' | 'none';
  /** Words before the command of QEMU, if its network is `outbound`. */
  readonly networkCommand: readonly string[];
  /** The names of the disks in it are gone once QEMU has them. */
  readonly dir: GuestDir;
  /** The host's store; shared if there is a virtiofsd. */
  readonly storeDir: string;
  readonly consoleLog: ConsoleLog;
  /** Undefined: none. Takes a virtiofsd. */
  readonly share?: UserShare | undefined;
  /** Where the machine reads what is typed on its console. Default: nothing is. */
  readonly stdin?: 'pipe' | undefined;
  /** Removes what the guest had on disk. */
  readonly cleanUp: () => Promise<void>;
}

/** The processes of a guest, and the supervisor's ends of what they inherited. */
export interface Started {
  readonly qemu: Child;
  readonly store: SharedDirectory | undefined;
  readonly share: SharedDirectory | undefined;
  readonly sshPort: Duplex;
}

/** @throws DroverError, or Node's error for a file that cannot be opened; nothing of the guest is left then */
export async function startParts(spec: PartsSpec, signal: AbortSignal): Promise<Started> {
  const shared: SharedDirectory[] = [];
  const { virtiofsd, setpriv } = spec.programs;
  const share = async (
    directory: string,
    socket: string,
    owner?: UserShare['owner'],
  ): Promise<SharedDirectory | undefined> => {
    if (virtiofsd === undefined) return undefined;
    const { consoleLog } = spec;
    const started = await startVirtiofsd({
      program: virtiofsd,
      ...{ setpriv, socket, directory, owner, consoleLog, signal },
    });
    shared.push(started);
    return started;
  };
  try {
    const { dir } = spec;
    const store = await share(spec.storeDir, dir.virtiofsd);
    const own = spec.share && (await share(spec.share.directory, dir.virtiofsdOfShare, spec.share.owner));
    return await startQemu(spec, store, own);
  } catch (error) {
    for (const { child } of shared) await child.kill();
    spec.consoleLog.close();
    await spec.cleanUp();
    throw error;
  }
}

async function startQemu(
  spec: PartsSpec,
  store: SharedDirectory | undefined,
  share: SharedDirectory | undefined,
): Promise<Started> {
  const { programs, machine, network, networkCommand, dir, number, stdin } = spec;
  using inherited = new Inheritance();
  const descriptors = {
    store: store === undefined ? undefined : inherited.socket(store.connection),
    share: share === undefined ? undefined : inherited.socket(share.connection),
    configDisk: await inherited.file(dir.configDisk, 'r'),
    scratchDisk: await inherited.file(dir.scratch, 'r+'),
    sshPort: inherited.pipe(),
  };
  const bare = await inheritMachine(inherited, programs, machine);
  // From here on, keys and scratch space are released when QEMU ends, even if this process is killed.
  await Promise.all([rm(dir.configDisk), rm(dir.scratch)]);
  const args = guestMachineArguments({ ...bare, ...descriptors, name: dir.path, network });
  const qemu = await inherited.start(programs, args, number, networkCommand, stdin);
  return {
    qemu,
    store,
    share,
    sshPort: pipeOf(qemu.process, descriptors.sshPort),
  };
}
