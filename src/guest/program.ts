import type { Readable } from 'node:stream';

/** Bytes of input that may be on their way to a program that has not taken them. */
export const MAX_INPUT_BYTES = 256 * 1024;
/** Maximum size of a frame's content. */
const MAX_FRAME_BYTES = 64 * 1024;
const HEADER_BYTES = 5;

export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

/** A program to run for a person. */
export interface ProgramRequest {
  readonly argv: readonly string[];
  /** Undefined: it has pipes. */
  readonly terminal: TerminalSize | undefined;
}

/** A message to a program. Its sender keeps at most `MAX_INPUT_BYTES` of input on their way. */
export type ToProgram =
  | { readonly kind: 'input'; readonly bytes: Buffer }
  | { readonly kind: 'end' }
  | ({ readonly kind: 'size' } & TerminalSize)
  | { readonly kind: 'signal'; readonly signal: ProgramSignal };

/** A message of a program. `taken`: number of bytes of input. The last one is `exit` or `killed`. */
export type FromProgram =
  | { readonly kind: 'stdout' | 'stderr'; readonly bytes: Buffer }
  | { readonly kind: 'taken'; readonly count: number }
  | { readonly kind: 'exit'; readonly code: number }
  | { readonly kind: 'killed'; readonly signal: number };

/** A program that runs in a guest. */
export interface RunningProgram {
  send(message: ToProgram): void;
  /** Ends after the last message. Throws if the program's end will never be known, as when its guest has died. */
  readonly messages: AsyncIterable<FromProgram>;
  /** Ends the program, if it still runs. */
  close(): void;
}

/** Signals that are passed on, with Linux' numbers. */
export const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGTERM: 15, SIGUSR1: 10, SIGUSR2: 12 } as const;
export type ProgramSignal = keyof typeof SIGNALS;

/** One message of a byte stream: namespace/agent.c and namespace/program.c have the form. */
export interface Frame {
  /** One character. */
  readonly kind: string;
  readonly content: Buffer;
}

export function encodeFrame(kind: string, content: Uint8Array = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.write(kind, 'latin1');
  header.writeUInt32LE(content.length, 1);
  return Buffer.concat([header, content]);
}

/** @throws Error if a frame is too long */
export async function* readFrames(stream: Readable, maxBytes = MAX_FRAME_BYTES): AsyncGenerator<Frame> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= HEADER_BYTES) {
      const length = rest.readUInt32LE(1);
      if (length > maxBytes) throw new Error('a frame is too long');
      if (rest.length < HEADER_BYTES + length) break;
      yield {
        kind: rest.toString('latin1', 0, 1),
        content: rest.subarray(HEADER_BYTES, HEADER_BYTES + length),
      };
      rest = rest.subarray(HEADER_BYTES + length);
    }
  }
}

export function encodeToProgram(message: ToProgram): Buffer {
  switch (message.kind) {
    case 'input':
      return encodeFrame('i', message.bytes);
    case 'end':
      return encodeFrame('e');
    case 'size': {
      const content = Buffer.alloc(4);
      content.writeUInt16LE(Math.min(0xffff, message.rows), 0);
      content.writeUInt16LE(Math.min(0xffff, message.columns), 2);
      return encodeFrame('w', content);
    }
    case 'signal':
      return encodeFrame('k', Buffer.of(SIGNALS[message.signal]));
  }
}

/** @returns undefined for a frame that is not such a message */
export function decodeToProgram({ kind, content }: Frame): ToProgram | undefined {
  if (kind === 'i') return { kind: 'input', bytes: content };
  if (kind === 'e') return { kind: 'end' };
  if (kind === 'w' && content.length === 4)
    return { kind: 'size', rows: content.readUInt16LE(0), columns: content.readUInt16LE(2) };
  if (kind === 'k' && content.length === 1) {
    const number = content.readUInt8();
    const signal = (Object.keys(SIGNALS) as ProgramSignal[]).find((name) => SIGNALS[name] === number);
    return signal && { kind: 'signal', signal };
  }
  return undefined;
}

export function encodeFromProgram(message: FromProgram): Buffer {
  switch (message.kind) {
    case 'stdout':
      return encodeFrame('1', message.bytes);
    case 'stderr':
      return encodeFrame('2', message.bytes);
    case 'taken': {
      const content = Buffer.alloc(4);
      content.writeUInt32LE(message.count);
      return encodeFrame('a', content);
    }
    case 'exit':
      return encodeFrame('x', Buffer.of(message.code));
    case 'killed':
      return encodeFrame('s', Buffer.of(message.signal));
  }
}

/** @returns undefined for a frame that is not such a message */
export function decodeFromProgram({ kind, content }: Frame): FromProgram | undefined {
  if (kind === '1') return { kind: 'stdout', bytes: content };
  if (kind === '2') return { kind: 'stderr', bytes: content };
  if (kind === 'a' && content.length === 4) return { kind: 'taken', count: content.readUInt32LE() };
  if (kind === 'x' && content.length === 1) return { kind: 'exit', code: content.readUInt8() };
  if (kind === 's' && content.length === 1) return { kind: 'killed', signal: content.readUInt8() };
  return undefined;
}

/** The last message of a program. */
export function isLast(message: FromProgram): boolean {
  return message.kind === 'exit' || message.kind === 'killed';
}
