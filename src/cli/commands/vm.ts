import { access, realpath, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';

import { InvalidArgumentError, type Command } from 'commander';

import { parseSize } from '../../config/units.js';
import { directoryToShare, noMachines, requireSize } from '../../control/vms.js';
import { DroverError, errorMessage } from '../../lib/errors.js';
import { attach, terminalOf } from '../attach.js';
import { controlClient, readConfig, type AddCommand } from '../context.js';
import {
  buildImage,
  configurationFile,
  configurationOf,
  parseInstallable,
  type Configuration,
} from '../vm-configuration.js';
import { machines } from './machines.js';

/** The driver whose guests are no machines. */
const NAMESPACE = 'namespace';

interface VmOptions {
  readonly memory?: number;
  readonly cores?: number;
  readonly share?: string;
  readonly console?: true;
}

export const addVm: AddCommand = (program, context, setExitCode) => {
  program
    .command('vm')
    .description(
      'boot a NixOS configuration that imports nixosModules.guest in a virtual machine; Ctrl-] ends it',
    )
    .argument(
      '<flake#name|path>',
      'a configuration: FLAKE#NAME, a flake or a .nix file, which is built first; or its image such as ./result',
    )
    .option('--memory <size>', 'such as 4GiB, instead of what guests have', parsed(parseSize))
    .option('--cores <number>', 'instead of what guests have', parsed(wholeNumber))
    .option('--share <dir>', 'a directory of this host that the machine can write, at /share')
    .option('--console', 'pass input to the console even if it is not a terminal')
    .action(async (given: string, options: VmOptions, command: Command) => {
      const client = await controlClient(command, context);
      const { driver } = await client.status();
      if (driver === NAMESPACE) throw noMachines(driver);
      const { cwd, env } = context;
      // Before a build that may take long; the supervisor looks, too.
      const size = { memoryBytes: options.memory ?? null, cores: options.cores ?? null };
      requireSize(size);
      const share = options.share === undefined ? null : await directoryToShare(resolve(cwd, options.share));
      const configuration = parseInstallable(given) ?? (await configurationAt(resolve(cwd, given), env));
      const path =
        configuration === undefined
          ? resolve(cwd, given)
          : await buildImage(configuration, { env, builders: await ownLine() });
      const image = await manifestOf(path);
      const io = context.programIo();
      const terminal = terminalOf(io, env);
      if (terminal !== null) context.printError('Ctrl-] ends the machine.\n');
      const connection = await client.vm({ terminal, image, ...size, share });
      const input = terminal !== null || options.console === true;
      setExitCode(await attach(connection, io, terminal, context.printError, { escape: true, input }));

      async function ownLine(): Promise<string> {
        const config = await readConfig(command, context);
        const how = { door: 'socket', format: 'machines', identity: undefined, host: undefined } as const;
        return (await machines(config, { ...how, name: 'drover' }, context)).text.trim();
      }
    });
};

/** Has commander report a value that `parse` throws about. */
function parsed(parse: (text: string) => number): (text: string) => number {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      throw new InvalidArgumentError(errorMessage(error));
    }
  };
}

function wholeNumber(text: string): number {
  if (/^\d{1,4}$/.test(text)) return Number(text);
  throw new Error(`expected a whole number, got ${JSON.stringify(text.slice(0, 40))}`);
}

/**
 * The configuration that a path holds: a directory with a flake, or a .nix file.
 * @returns undefined for anything else
 * @throws DroverError `VM_REFUSED`
 */
async function configurationAt(path: string, env: NodeJS.ProcessEnv): Promise<Configuration | undefined> {
  if (await exists(join(path, 'manifest.json'))) return undefined;
  if (await exists(join(path, 'flake.nix'))) return await configurationOf(path, env);
  return path.endsWith('.nix') && (await exists(path)) ? configurationFile(path) : undefined;
}

/**
 * The manifest of an image.
 * @param path of the image's directory, of the manifest, or of a link to one
 * @returns its path without links
 * @throws DroverError `VM_REFUSED`
 */
async function manifestOf(path: string): Promise<string> {
  let found: string;
  try {
    found = await realpath(path);
  } catch (cause) {
    throw new DroverError('VM_REFUSED', `${path} cannot be found`, {
      cause,
      hint: 'Name a NixOS configuration as FLAKE#NAME or a .nix file, or its image such as ./result.',
    });
  }
  if (!(await stat(found)).isDirectory()) return found;
  const manifest = join(found, 'manifest.json');
  if (await exists(manifest)) return await realpath(manifest);
  throw new DroverError(
    'VM_REFUSED',
    `${path} is not a NixOS system that imports nixosModules.guest: it has no manifest.json`,
    { hint: await adviceAbout(found) },
  );
}

async function adviceAbout(directory: string): Promise<string> {
  if (await exists(join(directory, 'configuration.nix')))
    return 'Name the file of the configuration: configuration.nix in it.';
  if (await exists(join(directory, 'init')))
    return 'It is a system without its image: name config.system.build.droverImage, or the configuration as FLAKE#NAME.';
  return 'Name a configuration as FLAKE#NAME, or what was built of config.system.build.droverImage.';
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
