import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';
import { parse, stringify } from 'yaml';

import { makeKey, REPOSITORY, type Drover } from '../support/drover.js';
import { Machine } from '../support/fleet.js';
import { NIX_DIRS, nixHost, succeeded, withSshConfig, type NixHost } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';

const POOL = { maxGuests: 1, jobsPerGuest: 2, warmGuests: 1 };
const WIDTH = 6;
const DEPTH = 4;
/** Number of cores of guests on the machine where no build ends, so that it is sure to be killed amid one. */
const ENDLESS_CORES = 7;
const HOOK = join(REPOSITORY, 'dist/drover-hook');

/** A supervisor on a machine, under the name that the client has for it. */
interface Member {
  readonly name: string;
  readonly machine: Machine;
  drover: Drover;
}

/** Files of the client: its list of machines, and the ssh configuration that goes with it. */
class Client {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  get machines(): string {
    return join(this.dir, 'machines');
  }

  async add(member: Member): Promise<void> {
    await this.trust(member);
    const line = await printed(member, '--door', 'ssh');
    await appendFile(this.machines, `${withSshConfig(line, this.dir)}\n`);
  }

  /** Writes the ssh configuration of one machine, with its host key of now. */
  async trust(member: Member, identity = member.drover.identity): Promise<void> {
    const block = await printed(member, '--format', 'ssh-config', '--identity', identity);
    await writeFile(join(this.dir, `ssh-${member.name}`), block.replaceAll('~/', `${this.dir}/`));
  }
}

async function printed({ name, machine, drover }: Member, ...args: string[]): Promise<string> {
  const result = await drover.cli('machines', '--name', name, '--host', machine.address, ...args);
  if (result.exitCode !== 0) throw new Error(result.stderr);
  return result.stdout.trimEnd();
}

/** Disposes of what was added, the last first. */
class Disposables implements AsyncDisposable {
  readonly #all: AsyncDisposable[] = [];

  add<T extends AsyncDisposable>(one: T): T {
    this.#all.unshift(one);
    return one;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const one of this.#all) await one[Symbol.asyncDispose]();
  }
}

/** Layers of derivations, each of which needs all of the layer before. */
function graph(host: NixHost): string {
  const script = `[ "$NIX_BUILD_CORES" != ${ENDLESS_CORES} ] || sleep 86399; sleep 1; echo $name > $out`;
  const layer = (depth: number): string =>
    Array.from({ length: WIDTH }, (_, index) => {
      const name = `layer${depth}-${index}`;
      const inputs = depth === 0 ? '' : `inputs = layer${depth - 1};`;
      return host.derivation(name, script, inputs);
    }).join(' ');
  const layers = Array.from({ length: DEPTH }, (_, depth) => `layer${depth} = [ ${layer(depth)} ];`);
  return `let ${layers.join(' ')} in layer${DEPTH - 1}`;
}

describeE2e('a fleet of supervisors under one client', ['modern-nix', 'ip'], () => {
  test('no build fails while one is killed, one drains, one is added and keys change', async () => {
    await using stack = new Disposables();
    const client = new Client(await mkdtemp('/tmp/fl-'));
    stack.add({ [Symbol.asyncDispose]: () => rm(client.dir, { recursive: true }) });
    const start = async (machine: Machine, cores = 1): Promise<Drover> =>
      await machine.startDrover({
        nix: NIX_DIRS.modern,
        env: { PATH: `${NIX_DIRS.modern}:${process.env['PATH'] ?? ''}` },
        config: { pool: POOL, guest: { cores } },
      });
    const joining = async (name: string, cores?: number): Promise<Member> => {
      const machine = stack.add(await Machine.make());
      const member = { name, machine, drover: await start(machine, cores) };
      stack.add({ [Symbol.asyncDispose]: () => member.drover[Symbol.asyncDispose]() });
      return member;
    };
    const [killed, drained, rotated, added] = await Promise.all([
      joining('one', ENDLESS_CORES),
      joining('two'),
      joining('three'),
      joining('four'),
    ]);
    for (const member of [killed, drained, rotated]) await client.add(member);
    await client.trust(added);
    await writeFile(join(client.dir, 'ssh_config'), `Include ${client.dir}/ssh-*\n`);
    const host = stack.add(
      await nixHost({
        version: 'modern',
        nixConf: {
          ...{ 'max-jobs': '0', system: 'aarch64-darwin', builders: `@${client.machines}` },
          'build-hook': `${HOOK} ${NIX_DIRS.modern}/nix __build-remote`,
        },
      }),
    );

    const build = host.startBuild(graph(host));
    for (const { drover } of [killed, drained, rotated]) await drover.events.waitFor('build-started');
    await client.add(added);
    killed.drover.signal('SIGKILL');
    drained.drover.signal('SIGTERM');

    // A new key for the client: listed first, used next, and then the old one is taken away.
    const identity = join(client.dir, 'id_new');
    const { publicKey } = await makeKey(identity);
    const configure = async (change: (keys: string[]) => string[]): Promise<void> => {
      const config = parse(await readFile(rotated.drover.configFile, 'utf8')) as Configuration;
      config.doors.ssh.authorizedKeys = change(config.doors.ssh.authorizedKeys);
      await rotated.drover.replaceConfig(stringify(config));
    };
    await configure((keys) => [...keys, publicKey]);
    await rotated.drover.waitForLog('configuration reloaded');
    await client.trust(rotated, identity);
    await configure(() => [publicKey]);
    await rotated.drover.waitForLog('ssh client cut off: its key or its rights have changed');

    // It comes back with another host key, which the client learns only later.
    expect(await drained.drover.exited).toEqual({ exitCode: 0, signal: null });
    await rm(join(drained.drover.stateDir, 'ssh/host_ed25519_key'));
    drained.drover = await start(drained.machine);
    await client.trust(drained);

    const { stderr } = succeeded(await build.ended);
    expect(stderr).toContain('drover-hook: the builder was lost; building again');
    expect(added.drover.events.of('build-started')).not.toEqual([]);
  }, 480_000);
});

/** The part of a configuration that holds the ssh door's keys. */
interface Configuration {
  readonly doors: { readonly ssh: { authorizedKeys: string[] } };
}
