/** Id of a build in the form that people see and type: `b1842`. */
export function formatBuildId(id: number): string {
  return `b${id}`;
}

/** @returns undefined if `text` is not `b` and a number */
export function parseBuildId(text: string): number | undefined {
  const digits = /^b?([1-9]\d{0,14})$/.exec(text)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** A number and its noun: `1 build`, `2 builds`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
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

/** A duration for people, to two units: `3m 12s`, `4.2s`, `12ms`. */
export function humanDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(Math.max(0, ms))}ms`;
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)}s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${whole % 60}s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)}h ${minutes % 60}m`;
  const hours = Math.round(minutes / 60);
  return `${Math.floor(hours / 24)}d ${hours % 24}h`;
}
