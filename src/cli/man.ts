import type { VerbReference } from './reference.js';

/** The man page, in the language of man(7). */
export function manPage(verbs: readonly VerbReference[], version: string): string {
  const program = verbs.find(({ name }) => name === '');
  const named = verbs.filter(({ name }) => name !== '');
  return [
    `.TH DROVER 1 "" "drover ${roff(version)}"`,
    '.SH NAME',
    'drover \\- throw-away Linux builders for Nix',
    '.SH SYNOPSIS',
    '.B drover',
    '[\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]',
    '.SH DESCRIPTION',
    roff(program?.description ?? ''),
    '.SH OPTIONS',
    ...(program?.options ?? []).flatMap(({ flags, description }) => entry(flags, description)),
    '.SH COMMANDS',
    ...named.flatMap(({ name, usage, description, arguments: args, options }) => [
      `.SS drover ${roff(`${name} ${usage}`)}`,
      roff(sentence(description)),
      ...args.flatMap((argument) => entry(argument.name, argument.description)),
      ...options.flatMap(({ flags, description: about }) => entry(flags, about)),
    ]),
    '.SH EXIT STATUS',
    ...entry('0', 'success'),
    ...entry('1', 'a failure with no status of its own'),
    ...entry('2', 'wrong usage of the command line'),
    ...entry('69', 'something that Drover needs is missing, or no supervisor runs'),
    ...entry('75', 'in use by another process: try again later'),
    ...entry('77', 'this user may not do that'),
    ...entry('78', 'the configuration is wrong'),
    '.SH ENVIRONMENT',
    ...entry('NO_COLOR', 'if set and not empty, the output has no colours'),
    '.SH FILES',
    ...entry('/etc/drover/drover.yaml', 'the configuration, unless --config names another file'),
    ...entry('/var/lib/drover', 'everything that Drover writes, unless stateDir names another directory'),
    '.SH SEE ALSO',
    '.BR nix (1),',
    '.BR nix.conf (5)',
    '',
  ].join('\n');
}

function entry(term: string, text: string): string[] {
  return ['.TP', `.B ${roff(term)}`, roff(sentence(text))];
}

function sentence(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}${text.endsWith('.') ? '' : '.'}`;
}

/** A line that man(7) takes as text. */
function roff(text: string): string {
  const escaped = text.replaceAll('\\', '\\e').replaceAll('-', '\\-');
  return /^[.']/.test(escaped) ? `\\&${escaped}` : escaped;
}
