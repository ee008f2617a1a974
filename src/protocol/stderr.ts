import {
  MAX_ERROR_TRACES,
  MAX_LOG_FIELDS,
  MAX_MESSAGE_BYTES,
  MAX_SHORT_STRING_BYTES,
  MAX_STRING_BYTES,
} from './limits.js';
import { malformed, ProtocolError } from './protocol-error.js';
import { bounded, bytes, list, num, string, u32, u64, type Decoder } from './wire.js';
import { WireWriter } from './wire-writer.js';

/** The words that begin a frame from the daemon (`STDERR_*` in worker-protocol.hh). */
export const Stderr = {
  Next: 0x6f6c6d67,
  Read: 0x64617461,
  Write: 0x64617416,
  Last: 0x616c7473,
  Error: 0x63787470,
  StartActivity: 0x53545254,
  StopActivity: 0x53544f50,
  Result: 0x52534c54,
} as const;

/** Activity type of one build; its log lines are results of type `RESULT_BUILD_LOG_LINE` (logging.hh). */
export const ACTIVITY_BUILD = 105;
/** Result type of one line of a build's log: one field, the text. */
export const RESULT_BUILD_LOG_LINE = 101;
/** Result type of a build's current phase: one field, its name. */
export const RESULT_SET_PHASE = 104;

/** One field of an activity or result: a number, or text. */
export type LogField = bigint | string;

/** An error as a daemon of 1.26 or later sends it (`readError` in serialise.cc). */
export interface RemoteErrorInfo {
  /** Verbosity at which Nix shows it: 0 is an error, 1 a warning. */
  readonly level: number;
  /** Obsolete; Nix sends `Error`. */
  readonly name: string;
  readonly message: string;
  /** Outermost first. */
  readonly traces: readonly string[];
}

/** A frame that the daemon sends between a request and its response, or in place of the response. */
export type StderrFrame =
  | { readonly kind: 'next'; readonly text: string }
  /** The daemon asks for up to `length` bytes of an operation's data. Not used since 1.23. */
  | { readonly kind: 'read'; readonly length: number }
  | { readonly kind: 'write'; readonly data: Uint8Array }
  | { readonly kind: 'start-activity'; readonly activity: Activity }
  | { readonly kind: 'stop-activity'; readonly id: bigint }
  | {
      readonly kind: 'result';
      readonly id: bigint;
      readonly type: number;
      readonly fields: readonly LogField[];
    }
  /** The operation failed: no response follows, and the connection stays usable. */
  | { readonly kind: 'error'; readonly error: RemoteErrorInfo }
  /** The response follows. */
  | { readonly kind: 'last' };

/** A unit of work that takes time, such as one build. Ids are the daemon's; parent 0 means none. */
interface Activity {
  readonly id: bigint;
  readonly level: number;
  readonly type: number;
  readonly text: string;
  readonly fields: readonly LogField[];
  readonly parent: bigint;
}

/**
 * One frame of at most `MAX_MESSAGE_BYTES` (`processStderrReturn` in worker-protocol-connection.cc). Nothing in it
 * depends on the version, for 1.26 and later.
 * @throws ProtocolError `PROTOCOL_MALFORMED` for an unknown word, `PROTOCOL_LIMIT` for a frame that is too long.
 */
export function decodeStderrFrame(): Decoder<StderrFrame> {
  return bounded(decodeFrame(), MAX_MESSAGE_BYTES);
}

function* decodeFrame(): Decoder<StderrFrame> {
  const word = yield* num();
  switch (word) {
    case Stderr.Next:
      return { kind: 'next', text: yield* string() };
    case Stderr.Read:
      return { kind: 'read', length: yield* num() };
    case Stderr.Write:
      return { kind: 'write', data: yield* bytes(MAX_STRING_BYTES) };
    case Stderr.StartActivity:
      return { kind: 'start-activity', activity: yield* decodeActivity() };
    case Stderr.StopActivity:
      return { kind: 'stop-activity', id: yield* u64() };
    case Stderr.Result:
      return { kind: 'result', id: yield* u64(), type: yield* u32(), fields: yield* decodeFields() };
    case Stderr.Error:
      return { kind: 'error', error: yield* decodeRemoteError() };
    case Stderr.Last:
      return { kind: 'last' };
    default:
      throw malformed(`The daemon sent a frame of unknown type 0x${word.toString(16)}`);
  }
}

function* decodeActivity(): Decoder<Activity> {
  return {
    id: yield* u64(),
    level: yield* u32(),
    type: yield* u32(),
    text: yield* string(),
    fields: yield* decodeFields(),
    parent: yield* u64(),
  };
}

function decodeFields(): Decoder<LogField[]> {
  return list<LogField>(function* () {
    const type = yield* u32();
    if (type === 0) return yield* u64();
    if (type === 1) return yield* string();
    throw malformed(`A log field has the unknown type ${type}`);
  }, MAX_LOG_FIELDS);
}

function* decodeRemoteError(): Decoder<RemoteErrorInfo> {
  const type = yield* string(MAX_SHORT_STRING_BYTES);
  if (type !== 'Error') throw malformed('The daemon sent an error of unknown type', { type });
  const level = yield* u32();
  const name = yield* string(MAX_SHORT_STRING_BYTES);
  const message = yield* string();
  yield* noPosition();
  const traces = yield* list(function* () {
    yield* noPosition();
    return yield* string();
  }, MAX_ERROR_TRACES);
  return { level, name, message, traces };
}

function* noPosition(): Decoder<void> {
  if ((yield* u64()) !== 0n) throw malformed('The daemon sent an error with a position, which no Nix does');
}

/** The bytes of one frame. */
export function encodeStderrFrame(frame: StderrFrame): Buffer {
  const writer = new WireWriter();
  switch (frame.kind) {
    case 'next':
      return writer.u64(Stderr.Next).string(frame.text).finish();
    case 'read':
      return writer.u64(Stderr.Read).u64(frame.length).finish();
    case 'write':
      return writer.u64(Stderr.Write).bytes(frame.data).finish();
    case 'start-activity': {
      const { id, level, type, text, fields, parent } = frame.activity;
      writer.u64(Stderr.StartActivity).u64(id).u64(level).u64(type).string(text);
      writeFields(writer, fields);
      return writer.u64(parent).finish();
    }
    case 'stop-activity':
      return writer.u64(Stderr.StopActivity).u64(frame.id).finish();
    case 'result':
      writer.u64(Stderr.Result).u64(frame.id).u64(frame.type);
      writeFields(writer, frame.fields);
      return writer.finish();
    case 'error': {
      const { level, name, message, traces } = frame.error;
      writer.u64(Stderr.Error).string('Error').u64(level).string(name).string(message).u64(0);
      return writer.list(traces, (trace) => writer.u64(0).string(trace)).finish();
    }
    case 'last':
      return writer.u64(Stderr.Last).finish();
  }
}

function writeFields(writer: WireWriter, fields: readonly LogField[]): void {
  writer.list(fields, (field) =>
    typeof field === 'string' ? writer.u64(1).string(field) : writer.u64(0).u64(field),
  );
}

/** An error frame from Drover itself. Nix shows it to its user as `error: <message>`. */
export function encodeErrorFrame(message: string, traces: readonly string[] = []): Buffer {
  return encodeStderrFrame({ kind: 'error', error: { level: 0, name: 'Error', message, traces } });
}

/** Nix colours its messages for every client. In an exception's message they would show as escapes. */
const COLOURS = /\u001b\[[0-9;]*m/g;

/** A daemon's error as an exception, with its message but for the colours. */
export function remoteError(error: RemoteErrorInfo): ProtocolError {
  return new ProtocolError('PROTOCOL_REMOTE_ERROR', error.message.replaceAll(COLOURS, ''), {
    context: { level: error.level, traces: error.traces.length },
  });
}
