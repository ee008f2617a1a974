import type { OptionReference, VerbReference } from './reference.js';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** A script that a shell reads to complete command lines of drover. */
export function completionScript(shell: Shell, verbs: readonly VerbReference[]): string {
  switch (shell) {
    case 'bash':
      return bash(verbs);
    case 'zsh':
      return zsh(verbs);
    case 'fish':
      return fish(verbs);
  }
}

function flagsOf(options: readonly OptionReference[]): string[] {
  return options.flatMap(({ short, long }) => [short, long].filter((flag) => flag !== undefined));
}

function parts(verbs: readonly VerbReference[]): {
  common: readonly OptionReference[];
  named: VerbReference[];
} {
  return {
    common: verbs.find(({ name }) => name === '')?.options ?? [],
    named: verbs.filter(({ name }) => name !== ''),
  };
}

function bash(verbs: readonly VerbReference[]): string {
  const { common, named } = parts(verbs);
  const choices = named.flatMap(({ name, options }) =>
    options
      .filter((option) => option.choices.length > 0)
      .map((option) => `    "${name} ${option.long ?? ''}") words="${option.choices.join(' ')}" ;;`),
  );
  const flags = named.map(
    ({ name, options }) => `      ${name}) words="${flagsOf([...options, ...common]).join(' ')}" ;;`,
  );
  return `# bash completion for drover: source it, or put it into bash-completion's directory as "drover".
_drover() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]} verb= word words=
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $word in -*) ;; *) verb=$word; break ;; esac
  done
  case "$verb $previous" in
${choices.join('\n')}
    *" --config") compopt -o default; return ;;
    *)
      case $verb in
      "") words="${[...named.map(({ name }) => name), ...flagsOf(common)].join(' ')}" ;;
${flags.join('\n')}
      esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _drover drover
`;
}

function zsh(verbs: readonly VerbReference[]): string {
  const { common, named } = parts(verbs);
  const spec = ({ short, long, description, takesValue, choices }: OptionReference): string[] =>
    [short, long]
      .filter((flag) => flag !== undefined)
      .map((flag) => {
        const value = choices.length > 0 ? `(${choices.join(' ')})` : flag === '--config' ? '_files' : ' ';
        return quote(`${flag}[${escapeZsh(description)}]${takesValue ? `:value:${value}` : ''}`);
      });
  const specs = (options: readonly OptionReference[]): string => options.flatMap(spec).join(' ');
  const list = named.map(({ name, description }) => `    ${quote(`${name}:${description}`)}`);
  const cases = named.map(
    ({ name, options }) => `    ${name}) _arguments ${specs([...options, ...common])} '*: :' ;;`,
  );
  return `#compdef drover
# zsh completion for drover: put it into a directory of fpath as "_drover".
_drover() {
  local context state line
  local -a verbs
  verbs=(
${list.join('\n')}
  )
  _arguments -C ${specs(common)} '1: :->verb' '*:: :->rest'
  case $state in
  verb) _describe verb verbs ;;
  rest)
    case $line[1] in
${cases.join('\n')}
    esac ;;
  esac
}
_drover "$@"
`;
}

function fish(verbs: readonly VerbReference[]): string {
  const { common, named } = parts(verbs);
  const option = (
    where: string,
    { short, long, description, takesValue, choices }: OptionReference,
  ): string =>
    [
      'complete -c drover',
      where,
      ...(short === undefined ? [] : [`-s ${short.slice(1)}`]),
      ...(long === undefined ? [] : [`-l ${long.slice(2)}`]),
      ...(takesValue ? [long === '--config' ? '-r' : '-x'] : []),
      ...(choices.length > 0 ? [`-a ${quote(choices.join(' '))}`] : []),
      `-d ${quote(description)}`,
    ]
      .filter((word) => word !== '')
      .join(' ');
  return [
    '# fish completion for drover: put it into ~/.config/fish/completions/drover.fish.',
    'complete -c drover -f',
    ...common.map((each) => option('', each)),
    ...named.flatMap(({ name, description, options }) => [
      `complete -c drover -n __fish_use_subcommand -a ${name} -d ${quote(description)}`,
      ...options.map((each) => option(`-n '__fish_seen_subcommand_from ${name}'`, each)),
    ]),
    '',
  ].join('\n');
}

/** In single quotes, as all three shells read them. */
function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function escapeZsh(text: string): string {
  return text.replaceAll(/[[\]:]/g, '\\$&');
}
