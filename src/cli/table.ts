/** One column of a table. */
export interface Column {
  readonly title: string;
  /** Numbers stand to the right. */
  readonly right?: boolean;
  /** Where there is no room for all columns, those with the highest number are left out first. 0: never. */
  readonly spare: number;
  /** It may be cut down to this number of characters. */
  readonly min?: number;
}

const GAP = '  ';

/**
 * Lines of a table that fit a width. Columns that may be are cut first, the widest before others, then spare
 * columns are left out, and at last lines are cut.
 */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  width: number,
): string[] {
  const all = columns.map((column, index) => ({
    ...column,
    index,
    width: Math.max(lengthOf(column.title), ...rows.map((row) => lengthOf(row[index] ?? ''))),
  }));
  let shown = all;
  const total = (): number =>
    shown.reduce((sum, column) => sum + column.width, 0) + GAP.length * (shown.length - 1);
  const least = (): number =>
    shown.reduce((sum, column) => sum + Math.min(column.width, column.min ?? column.width), 0) +
    GAP.length * (shown.length - 1);
  while (least() > width && shown.some(({ spare }) => spare > 0)) {
    const most = Math.max(...shown.map(({ spare }) => spare));
    shown = shown.filter(({ spare }) => spare !== most);
  }
  for (let over = total() - width; over > 0; over = total() - width) {
    const widest = widestOf(shown.filter(({ width: now, min = now }) => now > min));
    if (widest === undefined) break;
    widest.width -= 1;
  }
  const line = (cells: readonly string[]): string =>
    fit(
      shown
        .map((column) => pad(fit(cells[column.index] ?? '', column.width), column.width, column.right))
        .join(GAP)
        .trimEnd(),
      width,
    );
  return [line(columns.map(({ title }) => title)), ...rows.map(line)];
}

function widestOf<C extends { readonly width: number }>(columns: readonly C[]): C | undefined {
  return columns.reduce<C | undefined>(
    (widest, column) => (widest === undefined || column.width > widest.width ? column : widest),
    undefined,
  );
}

/** The text, cut to a number of characters, with an ellipsis in place of the rest. */
export function fit(text: string, width: number): string {
  if (lengthOf(text) <= width) return text;
  return width < 1
    ? ''
    : `${Array.from(text)
        .slice(0, width - 1)
        .join('')}…`;
}

/** Lines of at most `width` characters, broken between words where there are any. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const paragraph of text.split('\n')) {
    let rest = Array.from(paragraph);
    while (rest.length > width) {
      const space = rest.slice(0, width + 1).lastIndexOf(' ');
      const end = space > 0 ? space : width;
      lines.push(rest.slice(0, end).join(''));
      rest = rest.slice(space > 0 ? end + 1 : end);
    }
    lines.push(rest.join(''));
  }
  return lines;
}

function pad(text: string, width: number, right = false): string {
  const space = ' '.repeat(Math.max(0, width - lengthOf(text)));
  return right ? space + text : text + space;
}

function lengthOf(text: string): number {
  return Array.from(text).length;
}
