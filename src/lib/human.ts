/** Id of a build in the form that people see and type: `b1842`. */
export function formatBuildId(id: number): string {
  return `b${id}`;
}

/** @returns undefined if `text` is not `b` and a number */
export function parseBuildId(text: string): number | undefined {
  const digits = /^b?([1-9]\d{0,14})$/.exec(text)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

const BINARY_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** A number of bytes for people, to three digits or so: `1.4 GiB`. */
export function humanBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < BINARY_UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${BINARY_UNITS[unit] ?? ''}`;
}
