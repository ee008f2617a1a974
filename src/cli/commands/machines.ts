import { resolve } from 'node:path';

import { Option, type Command } from 'commander';

import type { ListenAddress } from '../../config/listen.js';
import type { Config } from '../../config/schema.js';
import type { Status } from '../../control/api.js';
import { fetchStatus } from '../../control/client.js';
import { DroverError, errorCode } from '../../lib/errors.js';
import { readConfig, type AddCommand, type MachineSources } from '../context.js';
import {
  formatMachine,
  MACHINE_FORMATS,
  maxAdvertisedJobs,
  type MachineFacts,
  type MachineFormat,
} from '../machine-formats.js';

export interface MachinesOptions {
  readonly door: 'socket' | 'ssh';
  readonly format: MachineFormat;
  readonly identity: string | undefined;
}

export const addMachines: AddCommand = (program, context) => {
  program
    .command('machines')
    .description("print what to paste into Nix's or ssh's configuration")
    .addOption(
      new Option('--door <door>', 'how Nix reaches Drover').choices(['socket', 'ssh']).default('socket'),
    )
    .addOption(
      new Option('--format <format>', 'for /etc/nix/machines, nix.conf or ssh_config')
        .choices(MACHINE_FORMATS)
        .default('machines'),
    )
    .option('--identity <file>', "private key of the ssh door's client")
    .action(async (options: Omit<MachinesOptions, 'identity'> & { identity?: string }, command: Command) => {
      const config = await readConfig(command, context);
      context.print(await machines(config, { ...options, identity: options.identity }, context));
    });
};

/** Text to paste into Nix's or ssh's configuration. */
export async function machines(
  config: Config,
  options: MachinesOptions,
  sources: MachineSources,
): Promise<string> {
  const door = options.format === 'ssh-config' ? 'ssh' : options.door;
  const status = await statusIfRunning(config);
  const facts: MachineFacts = {
    systems: status?.systems ?? (await servedSystems(config, sources)),
    maxJobs: maxAdvertisedJobs(config.pool),
    features: config.features,
    connect: sources.connectProgram(config),
    ssh: door === 'ssh' ? await sshFacts(config, sources, status) : undefined,
    identity: identityFile(options, sources.cwd),
  };
  return formatMachine(options.format, door, facts);
}

/** Systems that the configuration names and guests on this host can build: a Mac may lack Rosetta. */
async function servedSystems(config: Config, sources: MachineSources): Promise<readonly string[]> {
  const here = await sources.systems(config);
  return config.systems?.filter((system) => here.includes(system)) ?? here;
}

async function statusIfRunning(config: Config): Promise<Status | undefined> {
  try {
    return await fetchStatus(config.stateDir);
  } catch (error) {
    if (errorCode(error) === 'NOT_RUNNING' || errorCode(error) === 'NOT_PERMITTED') return undefined;
    throw error;
  }
}

async function sshFacts(
  config: Config,
  sources: MachineSources,
  status: Status | undefined,
): Promise<MachineFacts['ssh']> {
  const { listen, clients } = config.doors.ssh;
  if (clients.length === 0) {
    throw new DroverError('CONFIG_INVALID', 'There is no ssh door: doors.ssh lists no usable key', {
      hint: "Add the public key of each client's root user to doors.ssh.clients or doors.ssh.authorizedKeys.",
    });
  }
  const publicKey = await sources.hostKey(config);
  if (publicKey === undefined) {
    throw new DroverError(
      'NOT_RUNNING',
      'The ssh door has no host key yet: drover serve makes it when it starts',
      {
        hint: 'Start drover serve once, then run this again.',
      },
    );
  }
  // Clients cannot connect to a wildcard address: advertise the host name.
  const host = ['0.0.0.0', '::'].includes(listen.host) ? sources.hostName : listen.host;
  return { host, port: sshPort(listen, status), publicKey };
}

/** Absolute: Nix runs ssh in a directory of its own. */
function identityFile({ identity, format }: MachinesOptions, cwd: string): string | undefined {
  if (identity === undefined) return undefined;
  const file = resolve(cwd, identity);
  if (format === 'ssh-config' || /^[^\s#;]+$/.test(file)) return file;
  throw new DroverError('IDENTITY_UNUSABLE', `Nix's machines file cannot hold the key file name ${file}`, {
    hint: 'Leave out --identity, and name the key in ssh_config: drover machines --format ssh-config.',
  });
}

/** The configured port, or the one that the running supervisor chose if the configuration leaves it open. */
function sshPort({ port }: ListenAddress, status: Status | undefined): number {
  if (port !== 0) return port;
  const chosen = status?.doors.ssh?.split(':').at(-1);
  if (chosen !== undefined) return Number(chosen);
  throw new DroverError('NOT_RUNNING', 'The ssh door listens on any free port, and none is chosen yet', {
    hint: 'Start drover serve and run this again, or choose a port in doors.ssh.listen.',
  });
}
