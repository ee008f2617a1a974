import { DroverError } from '../../lib/errors.js';
import { run } from '../../lib/process.js';
import { requireProgram } from '../../lib/programs.js';
import { reachableResolvers, resolverWarning } from '../resolvers.js';

const HOST_RESOLVERS = '/etc/resolv.conf';
const INSTEAD =
  'set guest.network to host, with which builds reach services on the loopback of this host, or to none';

/** The network of guests that reach other machines, but not the host's loopback. */
export interface OutboundNetwork {
  /** Words before a command: it runs in a network of its own, connected by slirp4netns. */
  readonly command: readonly string[];
  readonly warnings: readonly string[];
}

/**
 * QEMU's own network leads to the host's loopback by the address of its gateway, and cannot be told not to. So
 * QEMU runs in a network namespace where that address leads nowhere (`namespace/network.c`).
 * @param helper drover-namespace
 * @throws DroverError `REQUIREMENT_MISSING` if this host cannot do it
 */
export async function outboundNetwork(helper: string, env: NodeJS.ProcessEnv): Promise<OutboundNetwork> {
  if (process.platform !== 'linux') {
    throw new DroverError(
      'REQUIREMENT_MISSING',
      "guest.network is outbound, and only on Linux can QEMU's guests be kept from this host's loopback",
      { hint: `Use the vz driver, or ${INSTEAD}.` },
    );
  }
  const slirp = await requireProgram(
    env,
    'slirp4netns',
    `Install it (on Debian: apt-get install slirp4netns), or ${INSTEAD}.`,
  );
  const { 'resolv.conf': resolvers } = await reachableResolvers();
  const command = [helper, 'outbound', slirp, resolvers ?? '-'];
  const [program = helper, ...words] = command;
  const { exitCode, stderr } = await run(program, [...words, process.execPath, '--version'], { env });
  if (exitCode !== 0) {
    throw new DroverError(
      'REQUIREMENT_MISSING',
      `guest.network is outbound, and this host makes no network for guests: ${stderr.trim()}`,
      { hint: `Load the module tun, allow user namespaces or run Drover as root; or ${INSTEAD}.` },
    );
  }
  return { command, warnings: await resolverWarning(resolvers ?? HOST_RESOLVERS) };
}
