import type { Argument, Command, Option } from 'commander';

/** One verb, as its help, completions and man page describe it. */
export interface VerbReference {
  readonly name: string;
  readonly description: string;
  readonly usage: string;
  readonly arguments: readonly { readonly name: string; readonly description: string }[];
  readonly options: readonly OptionReference[];
}

export interface OptionReference {
  readonly flags: string;
  readonly short: string | undefined;
  readonly long: string | undefined;
  readonly description: string;
  readonly takesValue: boolean;
  readonly choices: readonly string[];
}

/** The program itself has the name of an empty string. */
export function referenceOf(program: Command): readonly VerbReference[] {
  return [program, ...program.commands].map((command) => ({
    name: command === program ? '' : command.name(),
    description: command.description(),
    usage: command.usage(),
    arguments: command.registeredArguments.map((argument: Argument) => ({
      name: argument.name(),
      description: argument.description,
    })),
    options: command.options.map((option: Option) => ({
      flags: option.flags,
      short: option.short,
      long: option.long,
      description: option.description,
      takesValue: option.required || option.optional,
      choices: option.argChoices ?? [],
    })),
  }));
}
