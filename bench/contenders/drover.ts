import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { Host } from '../host.js';
import { freePort, runProgram, Service } from '../process.js';
import type { VmKind } from '../vms.js';
import { client, JOBS, remoteOnly, type Contender } from './contender.js';

export interface DroverOptions {
  /** Distinguishes this supervisor's files from another's. */
  readonly name: string;
  /** The compiled `drover`. */
  readonly program: string;
  readonly idleTimeout: string;
  readonly logLevel: string;
  readonly nodeArgs: readonly string[];
  /** Undefined: guests are namespaces. */
  readonly vms: VmKind | undefined;
  /** Configuration of the history, as YAML on one line; default: Drover's own. */
  readonly history?: string;
  /** More of the section `pool`. */
  readonly pool?: Readonly<Record<string, number>>;
}

/** A supervisor with both of its doors. */
export class Drover {
  readonly socket: Contender;
  readonly ssh: Contender;
  readonly stateDir: string;
  /** Port of the metrics and the page. */
  readonly metricsPort: number;
  readonly #service: Service;
  readonly #guests: () => Promise<number>;

  private constructor(
    { socket, ssh }: Record<'socket' | 'ssh', Contender>,
    { stateDir, metricsPort }: Pick<Drover, 'stateDir' | 'metricsPort'>,
    service: Service,
    guests: () => Promise<number>,
  ) {
    this.socket = socket;
    this.ssh = ssh;
    this.stateDir = stateDir;
    this.metricsPort = metricsPort;
    this.#service = service;
    this.#guests = guests;
  }

  static async start(host: Host, options: DroverOptions): Promise<Drover> {
    const { name, program, nodeArgs, vms } = options;
    const dir = join(host.dir, name);
    await mkdir(dir, { recursive: true });
    const identity = join(dir, 'identity');
    await runProgram('rm', ['-f', identity, `${identity}.pub`], host.env);
    await runProgram('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', identity], host.env);
    const config = join(dir, 'drover.yaml');
    const metricsPort = await freePort();
    await writeFile(config, await configuration(host, dir, { ...options, identity, metricsPort }));
    const path = [...(vms === undefined ? [] : [vms.bin]), host.env['PATH']].join(':');
    const env = { ...host.env, PATH: path, NODE_ENV: 'production' };
    // Started as installed: by the first line of the program, which names the node and its flags.
    const command = nodeArgs.length === 0 ? [program] : [process.execPath, ...nodeArgs, program];
    const service = new Service(command, ['serve', '--config', config], { env, cwd: dir });
    await service.ready(() => service.said.includes('drover is ready'));
    const drover = async (...args: string[]): Promise<string> =>
      await runProgram(process.execPath, [program, ...args, '--config', config], env);
    const sshConfig = join(dir, 'ssh_config');
    const printed = await drover('machines', '--format', 'ssh-config', '--identity', identity);
    await writeFile(sshConfig, printed.replace('~/', `${dir}/`));
    const socketMachine = (await drover('machines', '--door', 'socket')).trim();
    // As it is printed, but for the place of the file.
    const sshMachine = (await drover('machines', '--door', 'ssh'))
      .trim()
      .replace('remote-program=ssh%20', `remote-program=ssh%20-F%20${sshConfig}%20`);
    const guests = async (): Promise<number> => {
      const status = JSON.parse(await drover('status', '--json')) as { guests: unknown[] };
      return status.guests.length;
    };
    const doors = {
      socket: await client(host, 'socket', `client-${name}-socket`, remoteOnly(socketMachine)),
      ssh: await client(host, 'ssh', `client-${name}-ssh`, remoteOnly(sshMachine)),
    };
    return new Drover(doors, { stateDir: stateDirOf(dir), metricsPort }, service, guests);
  }

  get pid(): number {
    return this.#service.pid;
  }

  get log(): string {
    return this.#service.said;
  }

  /** Number of guests in any state. */
  async guests(): Promise<number> {
    return await this.#guests();
  }

  async residentBytes(): Promise<number> {
    const status = await readFile(`/proc/${this.#service.pid}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024;
  }

  /** Processor time that the supervisor has used, in milliseconds. */
  async cpuMs(): Promise<number> {
    const stats = await readFile(`/proc/${this.#service.pid}/stat`, 'utf8');
    const fields = stats.slice(stats.lastIndexOf(')') + 2).split(' ');
    // User and system time in ticks; Linux always reports 100 a second.
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  async stop(): Promise<void> {
    await this.#service.stop();
  }
}

async function configuration(
  host: Host,
  dir: string,
  options: DroverOptions & { readonly identity: string; readonly metricsPort: number },
): Promise<string> {
  const { idleTimeout, logLevel, vms, history, identity, metricsPort } = options;
  // One for each door: a guest serves one client only, and to end it for the other one takes a boot.
  const pool = { maxGuests: 2, jobsPerGuest: JOBS, idleTimeout, bootTimeout: '100s', ...options.pool };
  const key = (await readFile(`${identity}.pub`, 'utf8')).trim();
  return [
    `stateDir: ${stateDirOf(dir)}`,
    `pool: { ${Object.entries(pool)
      .map(([name, value]) => `${name}: ${value}`)
      .join(', ')} }`,
    ...(history === undefined ? [] : [`history: ${history}`]),
    ...(vms === undefined
      ? ['driver: namespace', `guest: { nix: ${host.nix}, acceptVulnerableNix: true }`]
      : ['driver: qemu', `guest: ${vmSettings(vms)}`]),
    'doors:',
    '  ssh:',
    `    listen: 127.0.0.1:${await freePort()}`,
    `    authorizedKeys: ["${key}"]`,
    `metrics: { listen: 127.0.0.1:${metricsPort} }`,
    `log: { level: ${logLevel} }`,
    '',
  ].join('\n');
}

function vmSettings({ manifest, accelerator, memoryBytes, scratchBytes }: VmKind): string {
  const mebibytes = (bytes: number): string => `${bytes / 1024 ** 2}MiB`;
  const sizes = `memory: ${mebibytes(memoryBytes)}, scratchSize: ${mebibytes(scratchBytes)}`;
  return `{ image: ${manifest}, accelerator: ${accelerator}, acceptVulnerableNix: true, ${sizes} }`;
}

function stateDirOf(dir: string): string {
  return join(dir, 'state');
}
