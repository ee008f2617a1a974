import { setMaxListeners } from 'node:events';
import type { Duplex } from 'node:stream';

import ssh2 from 'ssh2';

import { CommandOutput } from './command-output.js';
import type { ExecResult } from './driver.js';
import type { ProgramRequest, RunningProgram } from './program.js';
import { programOf } from './ssh-program.js';
import { unlessAborted } from '../lib/abortable.js';
import { afterAwake, systemClock, type CancelTimer, type Clock } from '../lib/clock.js';
import { DroverError, errorMessage } from '../lib/errors.js';

/** A guest is asked for a sign of life this often, in milliseconds. */
const KEEPALIVE_INTERVAL_MS = 4_000;
/**
 * A guest from which nothing at all has come for this long is hung, in milliseconds. Its answers to keepalives do not
 * tell: they come after everything that is on its way in both directions, which takes longer on a busy host.
 */
const HANG_MS = 12_000;
/**
 * Time limit for a command, in milliseconds: an emulated guest registers a hundred thousand paths in less.
 */
const EXEC_TIMEOUT_MS = 120_000;
/** Bytes of one channel that may wait for a reader: twice the window that ssh2 grants. It takes more than that. */
const MAX_UNREAD_BYTES = 4 * 1024 * 1024;

export interface SshChannelOptions {
  /** A byte stream to the guest's sshd. */
  readonly stream: Duplex;
  /** The only host key that is accepted: `ssh-ed25519 <base64>`. */
  readonly hostKey: string;
  /** In OpenSSH's format. Secret. */
  readonly clientKey: string;
  /** Gives up: `connect` then rejects with its reason. */
  readonly signal: AbortSignal;
  /** Default: the system's. */
  readonly clock?: Clock;
}

/**
 * One SSH connection to a guest, for the whole of its life: commands, and streams to Unix sockets in it, are channels
 * of this connection. A guest that hangs is noticed.
 */
export class SshChannel {
  /** Settles, never rejects, when the connection has ended: why, for people. */
  readonly closed: Promise<string>;
  readonly #client: ssh2.Client;
  readonly #stream: Duplex;
  readonly #clock: Clock;
  readonly #gone = new AbortController();
  readonly #channels = new Set<ssh2.ClientChannel>();
  #close: (why: string) => void = () => undefined;
  /** When something has come from the guest. */
  #heardAt = 0;
  #cancelHang: CancelTimer = () => undefined;

  private constructor(client: ssh2.Client, stream: Duplex, clock: Clock) {
    this.#client = client;
    this.#stream = stream;
    this.#clock = clock;
    // One for each command that runs and each channel that is being opened.
    setMaxListeners(0, this.#gone.signal);
    this.closed = new Promise((resolve) => {
      this.#close = resolve;
      client.on('error', (error) => {
        resolve(`its SSH connection failed: ${errorMessage(error)}`);
        // A hung guest does not answer the end of the connection either.
        this.destroy();
      });
      client.once('close', () => {
        resolve('its SSH connection ended');
      });
    });
    void this.closed.then((how) => {
      this.#cancelHang();
      this.#gone.abort(new DroverError('GUEST_GONE', `The guest is gone: ${how}`));
    });
  }

  /**
   * Waits until the guest's sshd answers and accepts the key, for as long as that takes: `signal` is the bound.
   * @throws DroverError `GUEST_UNTRUSTED` for another host key, `GUEST_GONE`; or the signal's reason
   */
  static async connect(options: SshChannelOptions): Promise<SshChannel> {
    const { stream, hostKey, clientKey, signal, clock = systemClock } = options;
    signal.throwIfAborted();
    const client = new ssh2.Client();
    const channel = new SshChannel(client, stream, clock);
    const onAbort = (): void => {
      channel.destroy();
    };
    signal.addEventListener('abort', onAbort, { once: true });
    const ready = new Promise<void>((resolve) => client.once('ready', resolve));
    const shown = { isOther: false };
    try {
      client.connect({
        sock: stream,
        username: 'root',
        privateKey: clientKey,
        hostVerifier: (key: Buffer) => {
          shown.isOther = `ssh-ed25519 ${key.toString('base64')}` !== hostKey;
          return !shown.isOther;
        },
        algorithms: { serverHostKey: ['ssh-ed25519'] },
        keepaliveInterval: KEEPALIVE_INTERVAL_MS,
        keepaliveCountMax: Infinity,
        readyTimeout: 0,
      });
      stream.on('data', channel.#onData);
      await channel.#unlessGone(ready);
      channel.#expectLife();
      return channel;
    } catch (error) {
      channel.destroy();
      signal.throwIfAborted();
      if (shown.isOther)
        throw new DroverError('GUEST_UNTRUSTED', 'what answers is not the guest: it has another host key');
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /**
   * Runs a command with these words, whatever is in them. One that does not end within two minutes of its input is the
   * connection's end: something hangs in the guest, though its sshd answers.
   * @throws DroverError `GUEST_GONE`, `GUEST_EXEC_FAILED`
   */
  async exec(argv: readonly string[], stdin: string | Promise<string> = ''): Promise<ExecResult> {
    let over = false;
    let cancel: CancelTimer = () => undefined;
    const input = Promise.resolve(stdin);
    void input.then(() => {
      if (over) return;
      cancel = this.#clock.after(EXEC_TIMEOUT_MS, () => {
        this.#close(`${argv.slice(0, 2).join(' ')} has not ended within ${EXEC_TIMEOUT_MS / 1000} s in it`);
        this.destroy();
      });
    });
    try {
      return await this.#run(argv, input);
    } finally {
      over = true;
      cancel();
    }
  }

  async #run(argv: readonly string[], stdin: Promise<string>): Promise<ExecResult> {
    const { channel, closed, ended } = await this.#open(
      (done) => {
        this.#client.exec(argv.map(quote).join(' '), done);
      },
      (opened) => watch(opened),
    );
    void stdin.then((text) => channel.end(text));
    await this.#unlessGone(closed);
    const { code, stdout, stderr } = ended();
    const name = argv[0] ?? '';
    if (code === undefined) {
      throw new DroverError('GUEST_GONE', `The guest is gone: its connection ended before ${name} did`);
    }
    if (code === null) {
      throw new DroverError('GUEST_EXEC_FAILED', `${name} was killed in the guest`, {
        context: { verb: argv[1] },
      });
    }
    return { exitCode: code, stdout, stderr };
  }

  /**
   * Runs a program for a person, which ends with the connection.
   * @throws DroverError `GUEST_GONE`, `GUEST_EXEC_FAILED`
   */
  async start({ argv, terminal }: ProgramRequest): Promise<RunningProgram> {
    const pty = terminal && { rows: terminal.rows, cols: terminal.columns, term: 'xterm-256color' };
    return await this.#open((done) => {
      this.#client.exec(argv.map(quote).join(' '), pty === undefined ? {} : { pty }, done);
    }, programOf);
  }

  /** A byte stream to a Unix socket in the guest. @throws DroverError `GUEST_GONE`, `GUEST_EXEC_FAILED` */
  async openSocket(path: string): Promise<Duplex> {
    return await this.#open(
      (done) => {
        this.#client.openssh_forwardOutStreamLocal(path, done);
      },
      (opened) => opened,
    );
  }

  /** Ends the connection at once. */
  destroy(): void {
    this.#client.destroy();
    // The client leaves a stream open that the other side has ended, and would wait for it for good.
    this.#stream.destroy();
  }

  #watched(channel: ssh2.ClientChannel): ssh2.ClientChannel {
    this.#channels.add(channel);
    channel.once('close', () => this.#channels.delete(channel));
    // A guest may send more after the end of an output. A channel to a socket has one only.
    const errors = channel.stderr as typeof channel.stderr | undefined;
    for (const output of [channel, errors]) output?.on('error', () => undefined);
    return channel;
  }

  readonly #onData = (): void => {
    this.#heardAt = this.#clock.now();
    this.#limitUnread();
  };

  #expectLife(): void {
    const silentMs = this.#clock.now() - this.#heardAt;
    this.#cancelHang = afterAwake(this.#clock, HANG_MS - silentMs, () => {
      // Timers come before input in a turn of the event loop: bytes may be waiting to be read.
      setImmediate(() => {
        if (this.#gone.signal.aborted) return;
        if (this.#clock.now() - this.#heardAt < HANG_MS) {
          this.#expectLife();
          return;
        }
        this.#close(`it has not answered for ${HANG_MS / 1000} s`);
        this.destroy();
      });
    });
  }

  /** A guest that ignores the windows of its channels would fill this host's memory. */
  #limitUnread(): void {
    for (const { readableLength, stderr } of this.#channels) {
      // The type says otherwise, but a channel to a socket has none.
      const errors = (stderr as typeof stderr | undefined)?.readableLength ?? 0;
      if (readableLength + errors <= MAX_UNREAD_BYTES) continue;
      this.#close('it sends more than it was asked for');
      this.destroy();
      return;
    }
  }

  /** @param use is given the channel before anything else of it is: what comes at once is not missed */
  async #open<T>(
    start: (done: (error: Error | undefined, channel: ssh2.ClientChannel) => void) => void,
    use: (channel: ssh2.ClientChannel) => T,
  ): Promise<T> {
    const opened = new Promise<T>((resolve, reject) => {
      start((error, channel) => {
        if (error === undefined) resolve(use(this.#watched(channel)));
        else reject(new DroverError('GUEST_EXEC_FAILED', 'The guest opens no channel', { cause: error }));
      });
    });
    opened.catch(() => undefined);
    return await this.#unlessGone(opened);
  }

  /** A race with a promise of the connection's would keep each result for as long as the connection lives. */
  async #unlessGone<T>(work: Promise<T>): Promise<T> {
    return await unlessAborted(this.#gone.signal, work);
  }
}

/** Collects what comes of a command. */
function watch(channel: ssh2.ClientChannel) {
  const stdout = collect(channel);
  const stderr = collect(channel.stderr);
  // Null: a signal has ended it. Undefined: its end was not reported.
  let code: number | null | undefined;
  channel.once('exit', (status: number | null) => (code = status));
  const closed = new Promise<void>((resolve) => channel.once('close', resolve));
  return { channel, closed, ended: () => ({ code, stdout: String(stdout), stderr: String(stderr) }) };
}

/** Reads to the end, and keeps the beginning. */
function collect(stream: NodeJS.ReadableStream): CommandOutput {
  const output = new CommandOutput();
  stream.on('data', (chunk: Buffer) => {
    output.add(chunk);
  });
  return output;
}

/** One word for a POSIX shell. */
function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
