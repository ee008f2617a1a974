/** A loopback address of this process alone: there, every port is free. */
export function ownAddress(): string {
  const { pid } = process;
  return `127.${1 + ((pid >> 16) & 0x7f)}.${(pid >> 8) & 0xff}.${pid & 0xff}`;
}
