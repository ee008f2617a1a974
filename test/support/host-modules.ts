import { parseConfig } from '../../src/config/load.js';
import type { Config } from '../../src/config/schema.js';
import { evaluate } from './nix-eval.js';
import type { NixVersion } from './nix.js';

type Json = Readonly<Record<string, unknown>>;

/** Result of a host's configuration with Drover: see test/nix/darwin.nix and test/nix/nixos.nix. */
export interface HostSystem {
  /** Messages of assertions that failed. */
  readonly failed: readonly string[];
  readonly warnings: readonly string[];
  /** The configuration file's content. */
  readonly settings: Json;
  /** The script that builds and checks it. */
  readonly configFile: string;
  readonly maxJobs: number;
  /** Texts of files in /etc; null: made of another file. */
  readonly etc: Readonly<Record<string, string | null>>;
  readonly packages: readonly string[];
  /** The text of /etc/nix/machines. */
  readonly machines: string;
  readonly distributedBuilds: boolean;
  readonly nixSettings: Json;
}

export interface DarwinSystem extends HostSystem {
  /** Names of the options below `services.drover`. */
  readonly options: readonly string[];
  /** Values of those that are plain; test/nix/darwin.nix names the others. */
  readonly values: Json;
  readonly daemons: Readonly<
    Record<string, { readonly command: string; readonly path: readonly string[] } & Json>
  >;
  /** Settings of Determinate's module, if present. */
  readonly determinate: {
    readonly machines: string;
    readonly distributedBuilds: boolean;
    readonly customSettings: Json;
    readonly nativeBuilder: string | null;
  } | null;
  /** Shell scripts. */
  readonly checks: string;
  readonly activation: string;
}

export interface NixosSystem extends HostSystem {
  /** The text of drover.service, without PATH. */
  readonly unit: string;
  /** Names of the packages on its PATH. */
  readonly path: readonly string[];
  readonly services: readonly string[];
  readonly sshConfig: string;
  readonly tmpfiles: readonly string[];
  readonly kernelModules: readonly string[];
}

/**
 * A Mac with Drover.
 * @param configuration a module, in Nix, as a user would write it
 * @param more arguments of test/nix/darwin.nix, in Nix
 * @throws Error with what Nix says
 */
export async function darwin(
  configuration: string,
  { more = '', version = 'debian' }: { readonly more?: string; readonly version?: NixVersion } = {},
): Promise<DarwinSystem> {
  const expression = `import ./test/nix/darwin.nix { configuration = ${enabled(configuration)}; ${more} }`;
  return (await evaluate(version, expression)) as DarwinSystem;
}

/**
 * A NixOS host with Drover.
 * @param configuration a module, in Nix, as a user would write it
 * @param more arguments of test/nix/nixos.nix, in Nix
 * @throws Error with what Nix says
 */
export async function nixos(
  configuration: string,
  { more = '', version = 'debian' }: { readonly more?: string; readonly version?: NixVersion } = {},
): Promise<NixosSystem> {
  const expression = `import ./test/nix/nixos.nix { configuration = ${enabled(configuration)}; ${more} }`;
  return (await evaluate(version, expression)) as NixosSystem;
}

function enabled(configuration: string): string {
  return `{ imports = [ (${configuration}) { services.drover.enable = true; } ]; }`;
}

/** Loads a configuration file of a host module with Drover itself. @throws ConfigError */
export function load(settings: Json): Config {
  return parseConfig(JSON.stringify(settings, undefined, 2), 'drover.yaml', {
    env: {},
    uid: 0,
    home: '/root',
  });
}
