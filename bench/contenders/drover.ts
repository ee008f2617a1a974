import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { Host } from '../host.js';
import { freePort, runProgram, Service } from '../process.js';
import { client, JOBS, remoteOnly, type Contender } from './contender.js';

export interface DroverOptions {
  /** Tells this supervisor's files from another one's. */
  readonly name: string;
  /** The compiled `drover`. */
  readonly program: string;
  readonly idleTimeout: string;
  readonly logLevel: string;
  readonly nodeArgs: readonly string[];
}

/** A supervisor with both of its doors. */
export class Drover {
  readonly socket: Contender;
  readonly ssh: Contender;
  readonly #service: Service;
  readonly #guests: () => Promise<number>;

  private constructor(socket: Contender, ssh: Contender, service: Service, guests: () => Promise<number>) {
    this.socket = socket;
    this.ssh = ssh;
    this.#service = service;
    this.#guests = guests;
  }

  static async start(host: Host, options: DroverOptions): Promise<Drover> {
    const { name, program, nodeArgs } = options;
    const dir = join(host.dir, name);
    await mkdir(dir, { recursive: true });
    const identity = join(dir, 'identity');
    await runProgram('rm', ['-f', identity, `${identity}.pub`], host.env);
    await runProgram('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', identity], host.env);
    const config = join(dir, 'drover.yaml');
    await writeFile(config, await configuration(host, dir, `${identity}.pub`, options));
    const env = { ...host.env, NODE_ENV: 'production' };
    // As it is installed: by the first line of the program, which names the node and its flags.
    const command = nodeArgs.length === 0 ? [program] : [process.execPath, ...nodeArgs, program];
    const service = new Service(command, ['serve', '--config', config], { env, cwd: dir });
    await service.ready(() => service.said.includes('drover is ready'));
    const drover = async (...args: string[]): Promise<string> =>
      await runProgram(process.execPath, [program, ...args, '--config', config], env);
    const sshConfig = join(dir, 'ssh_config');
    await writeFile(sshConfig, await drover('machines', '--format', 'ssh-config', '--identity', identity));
    const socketMachine = (await drover('machines', '--door', 'socket')).trim();
    const sshMachine = (await drover('machines', '--door', 'ssh', '--identity', identity)).trim();
    const guests = async (): Promise<number> => {
      const status = JSON.parse(await drover('status', '--json')) as { guests: unknown[] };
      return status.guests.length;
    };
    return new Drover(
      await client(host, 'socket', `client-${name}-socket`, remoteOnly(socketMachine)),
      await client(host, 'ssh', `client-${name}-ssh`, remoteOnly(sshMachine), {
        NIX_SSHOPTS: `-F ${sshConfig}`,
      }),
      service,
      guests,
    );
  }

  get log(): string {
    return this.#service.said;
  }

  /** How many guests there are, of any state. */
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
    // User and system time in ticks, of which Linux always shows 100 a second.
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  async stop(): Promise<void> {
    await this.#service.stop();
  }
}

async function configuration(
  host: Host,
  dir: string,
  publicKey: string,
  { idleTimeout, logLevel }: DroverOptions,
): Promise<string> {
  return [
    `stateDir: ${dir}/state`,
    `pool: { maxGuests: 1, jobsPerGuest: ${JOBS}, idleTimeout: ${idleTimeout} }`,
    `guest: { nix: ${host.nix} }`,
    'doors:',
    '  ssh:',
    `    listen: 127.0.0.1:${await freePort()}`,
    `    authorizedKeys: ["${(await readFile(publicKey, 'utf8')).trim()}"]`,
    `metrics: { listen: 127.0.0.1:${await freePort()} }`,
    `log: { level: ${logLevel} }`,
    '',
  ].join('\n');
}
