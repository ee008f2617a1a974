/** Where a command prints. */
export interface Screen {
  /** Columns and rows of the terminal; 80 and 24 where there is none, or it does not know. */
  readonly columns: number;
  readonly rows: number;
  /** Standard output is a terminal. */
  readonly terminal: boolean;
  readonly colours: boolean;
}

/** Characters of a line under which nothing useful can be shown. */
const MIN_COLUMNS = 20;

/** @param output standard output */
export function screenOf(
  output: { readonly isTTY?: boolean; readonly columns?: number; readonly rows?: number },
  env: NodeJS.ProcessEnv,
): Screen {
  const terminal = output.isTTY === true;
  // A serial console, or a terminal that a program made, may not know its size: 0.
  const columns = (terminal && output.columns) || 80;
  const rows = (terminal && output.rows) || 24;
  // https://no-color.org: present and not empty.
  const colours = terminal && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb';
  return { columns: Math.max(MIN_COLUMNS, columns), rows: Math.max(2, rows), terminal, colours };
}

const CODES = { bold: '1', dim: '2', red: '31', green: '32', yellow: '33' } as const;

/** @param text printable */
export function coloured(text: string, colour: keyof typeof CODES, { colours }: Screen): string {
  return colours ? `\u001b[${CODES[colour]}m${text}\u001b[0m` : text;
}
