import { Command, CommanderError, Option } from 'commander';

import { loadConfig } from '../config/load.js';
import type { Config } from '../config/schema.js';
import { fetchStatus } from '../control/client.js';
import { machines, type MachineSources, type MachinesOptions } from './commands/machines.js';
import { EXIT, exitCodeOf } from './exit-codes.js';
import { MACHINE_FORMATS } from './machines.js';
import { renderError, renderStatus } from './render.js';

/** What the composition root gives the commands. */
export interface CliContext extends MachineSources {
  readonly version: string;
  readonly env: NodeJS.ProcessEnv;
  readonly uid: number;
  readonly home: string;
  readonly print: (text: string) => void;
  readonly printError: (text: string) => void;
  /**
   * Runs until it is told to stop.
   * @param load reads the configuration again
   * @returns the exit status
   */
  serve(config: Config, file: string | undefined, load: () => Promise<Config>): Promise<number>;
}

/** Runs one command. @returns the exit status; every failure has been told */
export async function runCli(argv: readonly string[], context: CliContext): Promise<number> {
  let exitCode: number = EXIT.ok;
  const program = buildProgram(context, (code) => {
    exitCode = code;
  });
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    context.printError(renderError(error));
    return exitCodeOf(error);
  }
}

function buildProgram(context: CliContext, setExitCode: (code: number) => void): Command {
  const load = async ({ config }: { config?: string }): Promise<Config> =>
    await loadConfig({
      ...(config === undefined ? {} : { file: config }),
      env: context.env,
      uid: context.uid,
      home: context.home,
    });
  const program = new Command('drover')
    .description(
      'Throw-away Linux builders for Nix: guests that boot when a build needs one, and are gone when it is done.',
    )
    .version(context.version)
    .exitOverride()
    .configureOutput({ writeOut: context.print, writeErr: context.printError })
    .showHelpAfterError('(see drover --help)');
  const command = (name: string, description: string): Command =>
    program
      .command(name)
      .description(description)
      .option('--config <file>', 'the configuration, in YAML (default: none, only defaults)');

  command('serve', 'run the supervisor until it is told to stop (SIGTERM drains, a second one kills)').action(
    async (options: { config?: string }) => {
      setExitCode(await context.serve(await load(options), options.config, () => load(options)));
    },
  );
  command('check', 'say what is wrong with a configuration, if anything is').action(
    async (options: { config?: string }) => {
      await load(options);
    },
  );
  command('status', 'show guests, builds and what was shared')
    .option('--json', 'as JSON')
    .action(async (options: { config?: string; json?: true }) => {
      const status = await fetchStatus((await load(options)).stateDir);
      context.print(
        options.json === true ? `${JSON.stringify(status, undefined, 2)}\n` : renderStatus(status),
      );
    });
  command('machines', "print what to paste into Nix's or ssh's configuration")
    .addOption(
      new Option('--door <door>', 'how Nix is to reach Drover').choices(['socket', 'ssh']).default('socket'),
    )
    .addOption(
      new Option('--format <format>', 'for /etc/nix/machines, nix.conf or ssh_config')
        .choices(MACHINE_FORMATS)
        .default('machines'),
    )
    .option('--identity <file>', "private key of the ssh door's client")
    .action(
      async (options: {
        config?: string;
        door: MachinesOptions['door'];
        format: MachinesOptions['format'];
        identity?: string;
      }) => {
        context.print(
          await machines(await load(options), { ...options, identity: options.identity }, context),
        );
      },
    );
  return program;
}
