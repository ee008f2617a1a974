/** Cases of each fuzzed peer: few in CI; `npm run attack` sets the number. */
export const FUZZ_CASES = Number(process.env['DROVER_FUZZ_CASES'] ?? 100);
/** Chosen at random by `npm run attack`. A run that fails prints it, and it can be set to repeat that run. */
export const FUZZ_SEED = Number(
  process.env['DROVER_FUZZ_SEED'] ??
    (process.env['DROVER_FUZZ_CASES'] === undefined ? 1 : Date.now() % 2 ** 31),
);

/** A source of numbers from 0 to `below` - 1: mulberry32. */
export type Random = (below: number) => number;

export function random(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** Values that decoders get wrong, in eight bytes. */
const NUMBERS = [
  0n,
  1n,
  7n,
  8n,
  255n,
  2n ** 26n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];

/** The bytes with one to four changes: flipped, cut off, repeated, removed, replaced by a number, or noise put in. */
export function mutated(bytes: Buffer, next: Random): Buffer {
  let changed = Buffer.from(bytes);
  for (let turns = 1 + next(4); turns > 0; turns--) {
    const at = next(changed.length + 1);
    const length = next(Math.min(64, changed.length - at + 1));
    const [before, part, after] = [
      changed.subarray(0, at),
      changed.subarray(at, at + length),
      changed.subarray(at + length),
    ];
    switch (next(7)) {
      case 0:
        if (at < changed.length) changed[at] = next(256);
        break;
      case 1:
        changed = Buffer.from(before);
        break;
      case 2:
        changed = Buffer.concat([before, part, part, after]);
        break;
      case 3:
        changed = Buffer.concat([before, after]);
        break;
      case 4: {
        const aligned = at - (at % 8);
        const number = Buffer.alloc(8);
        number.writeBigUInt64LE(NUMBERS[next(NUMBERS.length)] ?? 0n);
        changed = Buffer.concat([changed.subarray(0, aligned), number, changed.subarray(aligned + 8)]);
        break;
      }
      case 5:
        changed = Buffer.concat([before, Buffer.from(Array.from({ length }, () => next(256))), after]);
        break;
      default:
        if (at < changed.length) changed[at] = (changed[at] ?? 0) ^ (1 << next(8));
    }
  }
  return changed;
}

/** Bytes that can be read and written in pieces of random size. */
export function pieces(bytes: Buffer, next: Random): Buffer[] {
  const all: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    const size = next(3) === 0 ? 1 + next(8) : 1 + next(bytes.length);
    all.push(bytes.subarray(at, at + size));
    at += size;
  }
  return all;
}
