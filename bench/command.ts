export interface Command<Options> {
  readonly name: string;
  readonly usage: string;
  /** @throws Error about an option, for people */
  readonly read: (argv: readonly string[]) => Options;
  /** @returns the exit status */
  readonly run: (options: Options) => Promise<number>;
}

/** Runs a command, unless help is asked for. @returns its exit status; 2 if its options are wrong */
export async function runCommand<Options>(
  { name, usage, read, run }: Command<Options>,
  argv: readonly string[],
): Promise<number> {
  if (argv.includes('--help')) {
    process.stdout.write(usage);
    return 0;
  }
  let options;
  try {
    options = read(argv);
  } catch (error) {
    process.stderr.write(`${name}: ${error instanceof Error ? error.message : String(error)}\n${usage}`);
    return 2;
  }
  return await run(options);
}
