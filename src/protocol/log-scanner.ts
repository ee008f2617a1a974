import { MAX_LOG_FIELDS } from './limits.js';
import { decodeNixString } from './nix-string.js';
import { malformed, ProtocolError } from './protocol-error.js';
import { Stderr, type StderrFrame } from './stderr.js';
import { paddingOf } from './wire.js';

/** Bytes of a text that an observer sees at once. */
const MAX_OBSERVED_BYTES = 64 * 1024;
const NOTHING = new Uint8Array(0);
const ZEROES = new Uint8Array(8);
/** A longer text is not completed. */
const MAX_COMPLETED_BYTES = 1024 ** 3;
/** Written in place of the rest of a text that never comes, in pieces of this size. */
const BLANKS = Buffer.alloc(64 * 1024, ' ');

/**
 * A log frame, as it is observed. Where the first field of a result is a long text, `result-part` is observed for each
 * 64 KiB of it, and then the result with the rest. Of other texts only the first 64 KiB are observed.
 */
export type LogFrame =
  | Extract<StderrFrame, { kind: 'next' | 'start-activity' | 'stop-activity' | 'result' }>
  | { readonly kind: 'result-part'; readonly id: bigint; readonly type: number; readonly text: string };

/** The next item to read: a number of 8 bytes, or a text or a part of one, which is observed or skipped. */
type Want = 'number' | WantedText;

interface WantedText {
  readonly bytes: number;
  readonly observed: boolean;
  /** Number of zeroes that follow. */
  readonly padding: number;
  /** The part before this one has been observed. */
  readonly continued: boolean;
}

/**
 * Finds the end of a daemon's log (`processStderrReturn` in worker-protocol-connection.cc) in a stream of it: where the
 * last frame begins, or an error. Nothing is held but the first bytes of a text, so a line may be of any length.
 */
export class LogScanner {
  readonly #frames: Generator<Want, void, Uint8Array>;
  #want: Want = 'number';
  /** Nothing of the next frame has been read but for `#head`. */
  #between = true;
  /** The first bytes of a number whose others have not come. */
  readonly #head = Buffer.alloc(8);
  #headBytes = 0;
  /** Bytes of the text that are still to come, and zeroes after it. */
  #left = 0;
  #padding = 0;
  #observed: Buffer[] = [];
  #observedBytes = 0;
  #ended = false;
  #pausing = false;
  /** A frame is completed: what is not the guest's is not observed in parts. */
  #completing = false;
  #rest: Uint8Array = NOTHING;

  /** @param observe called for each frame that has passed */
  constructor(observe: (frame: LogFrame) => void) {
    this.#frames = this.#scan(observe);
    this.#advance(NOTHING);
  }

  /** The last frame, or an error, is next. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Stops before the next frame, or part of a text: what was pushed of it becomes the rest. */
  pause(): void {
    this.#pausing = true;
  }

  /** Whether `pause` was called during the last push. */
  get pausing(): boolean {
    return this.#pausing;
  }

  /** The part of the last push that was not examined. */
  get rest(): Uint8Array {
    return this.#rest;
  }

  /**
   * Returns what of the log can be passed on now: all but the first bytes of a frame whose kind is not known yet.
   * @throws ProtocolError `PROTOCOL_MALFORMED`, `PROTOCOL_LIMIT`
   */
  push(chunk: Uint8Array): Uint8Array[] {
    const parts: Uint8Array[] = [];
    let at = 0;
    this.#pausing = false;
    this.#rest = NOTHING;
    while (at < chunk.length) {
      if (this.#isPaused()) {
        this.#rest = chunk.subarray(at);
        return at > 0 ? [...parts, chunk.subarray(0, at)] : parts;
      }
      if (this.#want !== 'number') {
        at += this.#passText(chunk.subarray(at));
        continue;
      }
      const begin = at;
      const held = this.#headBytes;
      const count = Math.min(8 - held, chunk.length - at);
      const whole = held === 0 && count === 8;
      if (!whole) this.#head.set(chunk.subarray(at, at + count), held);
      at += count;
      this.#headBytes = held + count;
      if (this.#headBytes < 8) {
        if (!this.#between) continue;
        if (begin > 0) parts.push(chunk.subarray(0, begin));
        return parts;
      }
      this.#headBytes = 0;
      const wasBetween = this.#between;
      this.#advance(whole ? chunk.subarray(begin, at) : this.#head);
      if (this.#ended) {
        if (begin > 0) parts.push(chunk.subarray(0, begin));
        this.#rest = Buffer.concat([this.#head.subarray(0, held), chunk.subarray(begin)]);
        return parts;
      }
      // The chunk before was passed on without them.
      if (wasBetween && held > 0) parts.push(Buffer.from(this.#head.subarray(0, held)));
    }
    if (at > 0) parts.push(chunk);
    return parts;
  }

  /**
   * Returns what makes a whole frame of one that has begun and never ends, blanks in its text and zeroes, so that the
   * client can be sent another one.
   */
  *completion(): Generator<Uint8Array, void, undefined> {
    if (this.#between || this.#ended) return;
    this.#completing = true;
    do {
      if (this.#want === 'number') {
        const zeroes = ZEROES.subarray(this.#headBytes);
        this.#head.set(zeroes, this.#headBytes);
        this.#headBytes = 0;
        this.#advance(this.#head);
        yield zeroes;
        continue;
      }
      if (this.#left > MAX_COMPLETED_BYTES) return;
      const blanks = this.#left - this.#padding;
      const filler = blanks > 0 ? BLANKS.subarray(0, blanks) : ZEROES.subarray(0, this.#left);
      this.#passText(filler);
      yield filler;
    } while (!this.#isBetween());
  }

  #isBetween(): boolean {
    return this.#between;
  }

  #isPaused(): boolean {
    if (!this.#pausing || this.#between) return this.#pausing;
    const want = this.#want;
    return want !== 'number' && want.continued && this.#left === want.bytes + want.padding;
  }

  #passText(bytes: Uint8Array): number {
    const count = Math.min(bytes.length, this.#left);
    const room =
      this.#want !== 'number' && this.#want.observed ? MAX_OBSERVED_BYTES - this.#observedBytes : 0;
    const seen = Math.min(count, this.#left - this.#padding, room);
    if (seen > 0) {
      this.#observed.push(Buffer.from(bytes.subarray(0, seen)));
      this.#observedBytes += seen;
    }
    this.#left -= count;
    if (this.#left === 0) this.#endText();
    return count;
  }

  #endText(): void {
    const text = this.#observed.length === 1 ? (this.#observed[0] ?? NOTHING) : Buffer.concat(this.#observed);
    this.#observed = [];
    this.#observedBytes = 0;
    this.#advance(text);
  }

  #advance(bytes: Uint8Array): void {
    for (let given = bytes; ; given = NOTHING) {
      this.#between = false;
      const step = this.#frames.next(given);
      if (step.done === true) {
        this.#ended = true;
        return;
      }
      this.#want = step.value;
      if (step.value === 'number') return;
      this.#padding = step.value.padding;
      this.#left = step.value.bytes + this.#padding;
      if (this.#left > 0) return;
    }
  }

  *#scan(observe: (frame: LogFrame) => void): Generator<Want, void, Uint8Array> {
    for (;;) {
      this.#between = true;
      const word = low(yield 'number');
      switch (word) {
        case Stderr.Last:
        case Stderr.Error:
          return;
        case Stderr.Next:
          observe({ kind: 'next', text: yield* text(true) });
          break;
        case Stderr.Write:
          yield* text(false);
          break;
        case Stderr.Read:
          yield 'number';
          break;
        case Stderr.StopActivity:
          observe({ kind: 'stop-activity', id: id(yield 'number') });
          break;
        case Stderr.StartActivity:
          observe(yield* startActivity());
          break;
        case Stderr.Result: {
          const head = { id: id(yield 'number'), type: low(yield 'number') };
          const onPart = (part: string): void => {
            if (!this.#completing) observe({ kind: 'result-part', ...head, text: part });
          };
          observe({ kind: 'result', ...head, fields: yield* fields(onPart) });
          break;
        }
        default:
          throw malformed(`The daemon sent a frame of unknown type 0x${word.toString(16)}`);
      }
    }
  }
}

function* startActivity(): Generator<Want, LogFrame, Uint8Array> {
  const activity = { id: id(yield 'number'), level: low(yield 'number'), type: low(yield 'number') };
  yield* text(false);
  yield* fields();
  return {
    kind: 'start-activity',
    activity: { ...activity, text: '', fields: [], parent: id(yield 'number') },
  };
}

/** @param onPart see `text`, of the first field */
function* fields(onPart?: (part: string) => void): Generator<Want, (bigint | string)[], Uint8Array> {
  const count = low(yield 'number');
  if (count > MAX_LOG_FIELDS) {
    throw new ProtocolError(
      'PROTOCOL_LIMIT',
      `A log frame has ${count} fields; at most ${MAX_LOG_FIELDS} are taken`,
    );
  }
  const found: (bigint | string)[] = [];
  for (let i = 0; i < count; i++) {
    const type = low(yield 'number');
    if (type > 1) throw malformed(`${type} is no type of a log field`);
    found.push(type === 0 ? id(yield 'number') : yield* text(true, i === 0 ? onPart : undefined));
  }
  return found;
}

/** @param onPart gets a long text in parts. @returns the rest of it; without `onPart`, its beginning */
function* text(observed: boolean, onPart?: (part: string) => void): Generator<Want, string, Uint8Array> {
  const bytes = low(yield 'number');
  if (!Number.isSafeInteger(bytes)) throw malformed('A text is impossibly long');
  let left = bytes;
  for (; onPart !== undefined && left > MAX_OBSERVED_BYTES; left -= MAX_OBSERVED_BYTES) {
    const part = { bytes: MAX_OBSERVED_BYTES, observed, padding: 0, continued: left < bytes };
    onPart(decodeNixString(yield part));
  }
  const seen = yield { bytes: left, observed, padding: paddingOf(bytes), continued: left < bytes };
  return observed ? decodeNixString(seen) : '';
}

function id(bytes: Uint8Array): bigint {
  return new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
}

/** Exact up to 2^53. */
function low(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, 8);
  return view.getUint32(0, true) + view.getUint32(4, true) * 0x1_0000_0000;
}
