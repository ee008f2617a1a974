import type { Command } from 'commander';

/**
 * Puts `--` before the program of `drover run`, so that options after it are the program's own.
 * @param verb the verb's name
 */
export function separateProgram(argv: readonly string[], program: Command, verb: string): string[] {
  const command = program.commands.find((each) => each.name() === verb);
  const known = [...program.options, ...(command?.options ?? [])];
  const nextWord = (from: number): number => {
    for (let at = from; at < argv.length; at++) {
      const word = argv[at] ?? '';
      if (word === '--' || !word.startsWith('-')) return at;
      const option = known.find(({ short, long }) => word === short || word === long);
      if (option?.required === true) at += 1;
    }
    return argv.length;
  };
  const first = nextWord(0);
  const place = nextWord(first + 1);
  if (argv[first] !== verb || place >= argv.length || argv[place] === '--') return [...argv];
  return [...argv.slice(0, place), '--', ...argv.slice(place)];
}
