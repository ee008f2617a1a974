import { existsSync } from 'node:fs';

import type { Command } from 'commander';

import { loadConfig } from '../config/load.js';
import type { Config } from '../config/schema.js';
import type { GuestDriver } from '../guest/driver.js';
import { ControlClient } from '../control/client.js';
import type { ProgramIo } from './attach.js';
import type { Screen } from './screen.js';

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
  /** Prints something long, as fast as its reader takes it: text as `print`, bytes as they are. */
  readonly printAll: (parts: AsyncIterable<string | Uint8Array>) => Promise<void>;
  /** Sends a control sequence of Drover's own to the terminal. */
  readonly steer: (sequence: string) => void;
  readonly screen: () => Screen;
  /** Aborts when the user interrupts the command (Ctrl-C), which otherwise ends at once. */
  readonly interrupted: () => AbortSignal;
  /** Streams of a program in a guest. From then on, signals go to the program. */
  readonly programIo: () => ProgramIo;
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

/** @param again see loadConfig @throws ConfigError */
export async function readConfig(
  command: Command,
  context: CliContext,
  { again = false }: { readonly again?: boolean } = {},
): Promise<Config> {
  const file = configFile(command, context);
  const { env, uid, home } = context;
  return await loadConfig({ ...(file === undefined ? {} : { file }), env, uid, home, again });
}

/** The supervisor that the configuration belongs to. @throws ConfigError */
export async function controlClient(command: Command, context: CliContext): Promise<ControlClient> {
  return new ControlClient(await readConfig(command, context));
}

/** Text of `--json`. */
export function jsonText(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}
