import type { Duplex } from 'node:stream';

import { z } from 'zod';

import { startChild, type Child } from '../../lib/child.js';
import { systemClock, type Clock } from '../../lib/clock.js';
import type { Emitter } from '../../lib/emitter.js';
import { DroverError, errorCode, errorMessage } from '../../lib/errors.js';
import { isExhaustion } from '../../lib/exhaustion.js';
import { HelperConnection } from './helper-connection.js';
import {
  HELPER_PROTOCOL,
  helperConfigurationSchema,
  helperFactsSchema,
  machineStateSchema,
  spaceSchema,
  type HelperConfiguration,
  type HelperEvent,
  type HelperFacts,
  type HelperRequest,
  type MachineState,
} from './helper-protocol.js';

/** A vz-helper answers at once; another program never does. */
const HELLO_TIMEOUT_MS = 10_000;
/** Maximum number of warnings kept for a helper, which gives each warning once. */
const MAX_WARNINGS = 20;
/** From the end of its stdin to its own end: it has nothing to do in between. */
const CLOSE_TIMEOUT_MS = 2_000;
/** Descriptor of the helper, if `console.terminal` is true: PROTOCOL.md. */
const TERMINAL_DESCRIPTOR = 3;

/** A vz-helper that runs: one process, at most one guest. Calls after its end reject with `VZ_HELPER_ENDED`. */
export interface VzHelper {
  /** Events of the helper. `stopped` or `crashed` comes before `exited` settles. */
  readonly events: Emitter<HelperEvent>;
  /** Settles, never rejects, when the process is gone, and its guest with it: how it ended, for people. */
  readonly exited: Promise<string>;
  /** The answer to `hello`, the first request. */
  readonly facts: HelperFacts;
  /** Its warnings so far, including those before a listener was added. */
  readonly warnings: readonly string[];
  /** The other end of the guest's console, if that was asked for. */
  readonly terminal: Duplex | undefined;
  /** @throws DroverError `VZ_HELPER_REFUSED`, with the key that is wrong */
  configure(config: HelperConfiguration): Promise<MachineState>;
  start(): Promise<MachineState>;
  /** Free space of a volume in bytes, with what macOS would purge. @throws DroverError `VZ_HELPER_REFUSED` */
  freeBytes(path: string): Promise<number>;
  /** Ends its stdin, at which it ends, and waits for that; kills it if it does not. */
  close(): Promise<void>;
  /** Ends it at once, and waits for that. */
  kill(): Promise<void>;
}

export interface HelperOptions {
  /** The vz-helper. */
  readonly program: string;
  /** util-linux's, where there is one: see `startChild`. */
  readonly setpriv: string | undefined;
  /** Ends the helper, whenever that comes. */
  readonly signal?: AbortSignal;
  /** Whether the helper gets a descriptor for the guest's console: `VzHelper.terminal`. */
  readonly terminal?: boolean;
  readonly clock?: Clock;
}

/**
 * Starts a vz-helper and greets it.
 * @throws DroverError `VZ_HELPER_FAILED` if the program is not a vz-helper or speaks another protocol, or the
 *   signal's reason; no process is left then
 */
export async function startHelper(options: HelperOptions): Promise<VzHelper> {
  const { program, setpriv, signal, terminal = false, clock = systemClock } = options;
  signal?.throwIfAborted();
  const child = await start(program, setpriv, terminal);
  const connection = new HelperConnection(child.process);
  const exited = watch(child, connection, signal);
  const warnings: string[] = [];
  connection.events.on((event) => {
    if (event.event === 'warning' && warnings.length < MAX_WARNINGS) warnings.push(event.error.text);
  });
  const kill = async (): Promise<void> => {
    await child.kill();
    await exited;
  };
  try {
    const facts = await hello(connection, child, clock);
    return {
      events: connection.events,
      exited,
      facts,
      warnings,
      terminal: terminal ? (child.process.stdio[TERMINAL_DESCRIPTOR] as Duplex) : undefined,
      ...operations(connection),
      close: async () => {
        child.process.stdin?.end();
        const cancel = clock.after(CLOSE_TIMEOUT_MS, () => void child.kill());
        await exited;
        cancel();
      },
      kill,
    };
  } catch (cause) {
    await kill();
    signal?.throwIfAborted();
    const why = errorCode(cause) === 'VZ_HELPER_ENDED' ? await exited : errorMessage(cause);
    throw notAHelper(program, why);
  }
}

async function start(program: string, setpriv: string | undefined, terminal: boolean): Promise<Child> {
  try {
    const stdio = ['pipe', 'pipe', 'pipe', ...(terminal ? (['pipe'] as const) : [])] as const;
    return await startChild(setpriv === undefined ? undefined : [setpriv], program, [], [...stdio]);
  } catch (cause) {
    if (isExhaustion(cause)) throw cause;
    throw notAHelper(program, errorMessage(cause));
  }
}

function notAHelper(program: string, why: string): DroverError {
  return new DroverError('VZ_HELPER_FAILED', `${program} does not work as vz-helper: ${why}`, {
    context: { program },
  });
}

/** How the helper ends, for people: what it said itself, if it did. */
async function watch(
  child: Child,
  connection: HelperConnection,
  signal: AbortSignal | undefined,
): Promise<string> {
  let lastWords: string | undefined;
  connection.events.on((event) => {
    if (event.event === 'crashed') lastWords = `the guest crashed: ${event.error.text}`;
    if (event.event === 'stopped') lastWords = 'the guest powered off';
  });
  const abort = (): void => void child.kill();
  signal?.addEventListener('abort', abort, { once: true });
  // It may have been given up while it was started.
  if (signal?.aborted === true) abort();
  const end = await child.exited;
  signal?.removeEventListener('abort', abort);
  const { failure, stderr } = connection;
  const how = lastWords ?? failure?.message ?? `${end}${stderr === '' ? '' : `: ${stderr}`}`;
  connection.end(how);
  return how;
}

async function hello(connection: HelperConnection, child: Child, clock: Clock): Promise<HelperFacts> {
  const timeout = { passed: false };
  const cancel = clock.after(HELLO_TIMEOUT_MS, () => {
    timeout.passed = true;
    void child.kill();
  });
  try {
    const result = await connection.request({ op: 'hello', protocol: HELPER_PROTOCOL });
    return checked(helperFactsSchema, result, 'hello');
  } catch (error) {
    if (!timeout.passed) throw error;
    throw new DroverError('VZ_HELPER_FAILED', `it did not answer within ${HELLO_TIMEOUT_MS / 1000} s`);
  } finally {
    cancel();
  }
}

function operations(connection: HelperConnection): Pick<VzHelper, 'configure' | 'start' | 'freeBytes'> {
  const ask = async (request: HelperRequest): Promise<MachineState> =>
    checked(stateSchema, await connection.request(request), request.op).state;
  return {
    configure: async (config) => {
      const parsed = helperConfigurationSchema.safeParse(config);
      if (!parsed.success) throw badConfiguration(parsed.error);
      return ask({ op: 'configure', config: parsed.data });
    },
    start: async () => ask({ op: 'start' }),
    freeBytes: async (path) =>
      checked(spaceSchema, await connection.request({ op: 'space', path }), 'space').freeBytes,
  };
}

const stateSchema = z.object({ state: machineStateSchema });

function checked<T>(schema: z.ZodType<T>, result: unknown, op: string): T {
  const parsed = schema.safeParse(result);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new DroverError(
    'VZ_HELPER_FAILED',
    `vz-helper answers ${op} with what it should not: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`,
  );
}

/** The same as the helper would say, without asking it. */
function badConfiguration(error: z.ZodError): DroverError {
  const issue = error.issues[0];
  const key = ['config', ...(issue?.path ?? [])].join('.');
  return new DroverError('VZ_HELPER_REFUSED', `vz-helper cannot configure: ${key}: ${issue?.message ?? ''}`, {
    context: { op: 'configure', key },
  });
}
