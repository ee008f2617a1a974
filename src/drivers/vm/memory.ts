const GIB_BYTES = 1024 ** 3;

/**
 * Memory of a VM if the configuration names none: a quarter of the host's, in whole GiB, from 2 to 8 GiB. Two guests
 * then leave a host of 8 GiB half of its memory.
 */
export function memoryOfVm(hostBytes: number): number {
  return Math.min(8, Math.max(2, Math.floor(hostBytes / 4 / GIB_BYTES))) * GIB_BYTES;
}
