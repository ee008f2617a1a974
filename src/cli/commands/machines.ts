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
  SSH_ALIAS,
} from '../machine-formats.js';

export interface MachinesOptions {
  readonly door: 'socket' | 'ssh';
  readonly format: MachineFormat;
  readonly identity: string | undefined;
  readonly host: string | undefined;
  readonly name: string;
}

type CommandOptions = Omit<MachinesOptions, 'identity' | 'host'> & { identity?: string; host?: string };

export interface MachinesText {
  readonly text: string;
  readonly warning: string | undefined;
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
    .option('--identity <file>', "private key of the ssh door's client, for ssh_config")
    .option('--host <name>', 'name or address under which the client reaches this host, for ssh_config')
    .option('--name <alias>', 'what the client calls this host in ssh_config', SSH_ALIAS)
    .action(async (options: CommandOptions, command: Command) => {
      const config = await readConfig(command, context);
      const { identity, host } = options;
      const { text, warning } = await machines(config, { ...options, identity, host }, context);
      context.print(text);
      if (warning !== undefined) context.printError(`drover: ${warning}\n`);
    });
};

/** Text to paste into Nix's or ssh's configuration. */
export async function machines(
  config: Config,
  options: MachinesOptions,
  sources: MachineSources,
): Promise<MachinesText> {
  requireNames(options);
  const door = options.format === 'ssh-config' ? 'ssh' : options.door;
  const status = await statusIfRunning(config);
  const facts: MachineFacts = {
    systems: status?.systems ?? (await servedSystems(config, sources)),
    maxJobs: maxAdvertisedJobs(config.pool),
    features: config.features,
    connect: sources.connectProgram(config),
    ssh: door === 'ssh' ? await sshFacts(config, options, sources, status) : undefined,
    name: options.name,
    // Absolute: Nix runs ssh in a directory of its own.
    identity: options.identity === undefined ? undefined : resolve(sources.cwd, options.identity),
  };
  return {
    text: formatMachine(options.format, door, facts),
    warning: warningAbout(facts, config.doors.ssh.listen),
  };
}

/** @throws DroverError `IDENTITY_UNUSABLE`, `NAME_UNUSABLE` */
function requireNames({ name, host, identity, format }: MachinesOptions): void {
  for (const [option, value] of [
    ['--name', name],
    ['--host', host],
  ] as const) {
    if (value === undefined || /^[A-Za-z0-9]([A-Za-z0-9.:_-]*[A-Za-z0-9])?$/.test(value)) continue;
    throw new DroverError(
      'NAME_UNUSABLE',
      `${option} ${JSON.stringify(value)} is not a name for ssh_config`,
      {
        hint: 'Use letters, digits, dots and dashes.',
      },
    );
  }
  if (identity === undefined || format === 'ssh-config') return;
  throw new DroverError('IDENTITY_UNUSABLE', `--identity belongs in ssh_config, not in Nix's ${format}`, {
    hint: 'Leave it out here, and give it to: drover machines --format ssh-config.',
  });
}

/** Other hosts reach themselves at a loopback address. */
function warningAbout({ ssh }: MachineFacts, { host: listen }: ListenAddress): string | undefined {
  if (ssh === undefined) return undefined;
  const advice = 'to serve others, set doors.ssh.listen';
  if (isLoopback(ssh.host)) return `only this host itself reaches the ssh door at ${ssh.host}; ${advice}`;
  if (!isLoopback(listen)) return undefined;
  return `the ssh door listens on ${listen}, which ${ssh.host} reaches only if its port is forwarded; ${advice}`;
}

function isLoopback(host: string): boolean {
  return /^(127\.|localhost$|::1$)/.test(host);
}

/**
 * Systems that the configuration names and guests on this host can build: a Mac may lack Rosetta. Where the driver
 * cannot be asked, as before its image is built, those that the configuration names.
 */
async function servedSystems(config: Config, sources: MachineSources): Promise<readonly string[]> {
  const { systems } = config;
  if (systems === undefined) return await sources.systems(config);
  const here = await sources.systems(config).catch(() => systems);
  return systems.filter((system) => here.includes(system));
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
  options: MachinesOptions,
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
  const host = options.host ?? (['0.0.0.0', '::'].includes(listen.host) ? sources.hostName : listen.host);
  return { host, port: sshPort(listen, status), publicKey };
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
