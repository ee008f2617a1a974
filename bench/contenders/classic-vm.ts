import { writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';

import type { Host } from '../host.js';
import { freePort } from '../process.js';
import type { VmKind } from '../vms.js';
import { sshClient, type ClassicBuilder } from './classic.js';
import { startMachine } from './vm-machine.js';

/** sshd rejects more than ten unauthenticated connections. */
const START_SSHD = ['/usr/sbin/sshd', '-f', '/etc/ssh/sshd_config', '-o', 'MaxStartups=100'];

/**
 * A VM like Drover's guests, but run as others do: with its own store, and a port on the host that leads to its
 * sshd.
 */
export async function startClassicVm(host: Host, kind: VmKind): Promise<ClassicBuilder> {
  const dir = join(host.dir, 'classic');
  const port = await freePort();
  const network = ['-netdev', `user,id=net,hostfwd=tcp:127.0.0.1:${port}-:22`];
  const device = ['-device', 'virtio-net-pci,netdev=net,romfile='];
  const begun = performance.now();
  const { keys, qemu, ssh } = await startMachine(kind, {
    dir,
    cores: availableParallelism(),
    facts: { name: 'classic', share: 'none', store: 'raw' },
    more: () => [...network, ...device],
  });
  try {
    const { exitCode, stderr } = await ssh.exec(START_SSHD);
    if (exitCode !== 0) throw new Error(`sshd of the classic builder: ${stderr}`);
    const bootMs = performance.now() - begun;
    const identity = join(dir, 'identity');
    await writeFile(identity, keys.client.privateKey, { mode: 0o600 });
    const system = `${kind.image.architecture}-linux`;
    const { publicKey: hostKey } = keys.host;
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
