import { existsSync } from 'node:fs';

import type { Command } from 'commander';

import { loadConfig } from '../config/load.js';
import type { Config } from '../config/schema.js';
import type { GuestDriver } from '../guest/driver.js';

/** Facts for `drover machines` that only the composition root can find out without a running supervisor. */
export interface MachineSources {
  /** Systems that guests on this host can build. */
  systems(config: Config): Promise<readonly string[]>;
  /** The ssh door's public host key, if it was made already. */
  hostKey(config: Config): Promise<string | undefined>;
  connectProgram(config: Config): string;
  /** This machine's name. */
  readonly hostName: string;
  readonly cwd: string;
}

/** Everything that commands get from the composition root. */
export interface CliContext extends MachineSources {
  readonly version: string;
  readonly env: NodeJS.ProcessEnv;
  readonly uid: number;
  readonly home: string;
  readonly storeDir: string;
  /** @throws DroverError if no driver that the configuration allows works on this host */
  createDriver(config: Config): Promise<GuestDriver>;
  /** The machine's configuration file, read where it exists and the command line names no other. */
  readonly defaultConfigFile: string;
  readonly print: (text: string) => void;
  readonly printError: (text: string) => void;
  /**
   * Runs the supervisor until it is told to stop.
   * @param file where `config` was read from, if anywhere
   * @param load reads the configuration again
   * @returns the exit status
   */
  serve(config: Config, file: string | undefined, load: () => Promise<Config>): Promise<number>;
}

/** Adds one verb to the program. `setExitCode` is for verbs whose success has more than one exit status. */
export type AddCommand = (program: Command, context: CliContext, setExitCode: (code: number) => void) => void;

/** The file to read the configuration from; undefined for a configuration of defaults. */
export function configFile(command: Command, { defaultConfigFile }: CliContext): string | undefined {
  const { config } = command.optsWithGlobals<{ config?: string }>();
  return config ?? (existsSync(defaultConfigFile) ? defaultConfigFile : undefined);
}

/** @throws ConfigError */
export async function readConfig(command: Command, context: CliContext): Promise<Config> {
  const file = configFile(command, context);
  const { env, uid, home } = context;
  return await loadConfig({ ...(file === undefined ? {} : { file }), env, uid, home });
}
