import { mkdir, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';

import { guestFiles, makeGuestKeys } from '../../src/drivers/vm/guest-files.js';
import { guestNixConf } from '../../src/drivers/guest-nix-conf.js';
import { guestMachineArguments } from '../../src/drivers/qemu/arguments.js';
import { configDisk } from '../../src/drivers/qemu/config-disk.js';
import { Inheritance, inheritMachine, pipeOf } from '../../src/drivers/qemu/machine.js';
import { makeScratchDisk } from '../../src/drivers/scratch-disk.js';
import { SshChannel } from '../../src/guest/ssh-channel.js';
import type { Child } from '../../src/lib/child.js';
import type { Host } from '../host.js';
import { freePort } from '../process.js';
import type { VmKind } from '../vms.js';
import { sshClient, type ClassicBuilder } from './classic.js';
import { JOBS } from './contender.js';

const BOOT_TIMEOUT_MS = 100_000;
/** A guest number that Drover does not use, for the user that QEMU runs as. */
const NUMBER = 999_999;
/** sshd rejects more than ten unauthenticated connections. */
const START_SSHD = ['/usr/sbin/sshd', '-f', '/etc/ssh/sshd_config', '-o', 'MaxStartups=100'];

/**
 * A VM like Drover's guests, down to the arguments of QEMU, but run as others do: with its own store, and a
 * port on the host that leads to its sshd.
 */
export async function startClassicVm(host: Host, kind: VmKind): Promise<ClassicBuilder> {
  const dir = join(host.dir, 'classic');
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const keys = makeGuestKeys();
  const identity = join(dir, 'identity');
  await writeFile(identity, keys.client.privateKey, { mode: 0o600 });
  const port = await freePort();
  const begun = performance.now();
  const [qemu, sshPort] = await startQemu(dir, kind, keys, port);
  try {
    const signal = AbortSignal.timeout(BOOT_TIMEOUT_MS);
    sshPort.write('drover\n');
    const { publicKey: hostKey } = keys.host;
    const ssh = await SshChannel.connect({
      stream: sshPort,
      hostKey,
      clientKey: keys.client.privateKey,
      signal,
    });
    const { exitCode, stderr } = await ssh.exec(START_SSHD);
    if (exitCode !== 0) throw new Error(`sshd of the classic builder: ${stderr}`);
    const bootMs = performance.now() - begun;
    const system = `${kind.image.architecture}-linux`;
    return {
      contender: await sshClient(host, { dir, port, user: 'root', hostKey, identity, system }),
      bootMs,
      stop: async () => {
        ssh.destroy();
        await qemu.kill();
      },
    };
  } catch (error) {
    await qemu.kill();
    throw error;
  }
}

async function startQemu(dir: string, kind: VmKind, keys: ReturnType<typeof makeGuestKeys>, port: number) {
  const { image, programs, accelerator, memoryBytes, scratchBytes } = kind;
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
  const facts = { name: 'classic', scratchBytes, network: 'host', share: 'none', store: 'raw' } as const;
  const { generation, nixVersion, protocol, systems } = image;
  const manifest = { generation, nixVersion, protocol, systems };
  await writeFile(config, configDisk(guestFiles({ facts, nixConf, manifest, keys })), { mode: 0o600 });
  await makeScratchDisk(scratch, scratchBytes);
  await using inherited = new Inheritance();
  const descriptors = {
    store: undefined,
    configDisk: await inherited.file(config, 'r'),
    scratchDisk: await inherited.file(scratch, 'r+'),
    sshPort: inherited.pipe(),
  };
  const cores = availableParallelism();
  const machine = { image, accelerator, cores, memoryBytes, commandLine: image.commandLine };
  const bare = await inheritMachine(inherited, programs, machine);
  const args = guestMachineArguments({ ...bare, ...descriptors, name: 'classic', network: 'none' });
  const network = ['-netdev', `user,id=net,hostfwd=tcp:127.0.0.1:${port}-:22`];
  const device = ['-device', 'virtio-net-pci,netdev=net,romfile='];
  const qemu: Child = await inherited.start(programs, [...args, ...network, ...device], NUMBER);
  for (const stream of [qemu.process.stdout, qemu.process.stderr]) stream?.resume();
  const sshPort = pipeOf(qemu.process, descriptors.sshPort);
  sshPort.on('error', () => undefined);
  return [qemu, sshPort] as const;
}
