import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { run } from '../../src/lib/process.js';
import type { HelperConfiguration } from '../../src/drivers/vz/helper-protocol.js';
import { REPOSITORY } from './drover.js';
import { waitUntil, within } from './wait.js';

/** A program that is a guest to the double: see there what its ports do. */
export const TEST_GUEST = join(REPOSITORY, 'test/fixtures/vz-guest/guest.mjs');

/** The Linux build of vz-helper, after everything that can be checked of it has been. */
export async function buildVzHelper(): Promise<string> {
  const { exitCode, stdout, stderr } = await run('sh', [join(REPOSITORY, 'vz-helper/check.sh')]);
  if (exitCode !== 0) throw new Error(`vz-helper/check.sh failed: ${stdout}${stderr}`);
  return join(REPOSITORY, '.cache/vz-helper/vz-helper');
}

export type Message = Readonly<Record<string, unknown>>;

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface HelperSetup {
  /** Words of DROVER_VZ_DOUBLE: see vz-helper/double/double.h. */
  readonly knobs?: readonly string[];
  /** Whether the test guest runs in the machine; without, nothing does. */
  readonly guest?: boolean;
}

/** A vz-helper, with nothing between it and the test. */
export class RawHelper implements AsyncDisposable {
  readonly directory: string;
  readonly process: ChildProcess;
  readonly exited: Promise<Exit>;
  /** Everything it said, in order. */
  readonly messages: Message[] = [];
  readonly #looking = new Set<() => void>();
  #lastId = 0;

  private constructor(program: string, directory: string, { knobs = [], guest = false }: HelperSetup) {
    this.directory = directory;
    this.process = spawn(program, [], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: {
        PATH: process.env['PATH'],
        DROVER_VZ_DOUBLE: knobs.join(','),
        DROVER_VZ_DOUBLE_DIR: directory,
        ...(guest ? { DROVER_VZ_DOUBLE_GUEST: TEST_GUEST } : {}),
      },
    });
    this.exited = new Promise((resolve) => {
      this.process.once('close', (code, signal) => {
        resolve({ code, signal });
      });
    });
    this.process.stdin?.on('error', () => undefined);
    if (this.process.stdout !== null)
      createInterface({ input: this.process.stdout }).on('line', (line) => {
        this.messages.push(JSON.parse(line) as Message);
        for (const look of this.#looking) look();
      });
  }

  static async start(program: string, setup: HelperSetup = {}): Promise<RawHelper> {
    const directory = await mkdtemp(join(tmpdir(), 'vz-'));
    for (const file of ['kernel', 'initrd', 'disk']) await writeFile(join(directory, file), 'x');
    return new RawHelper(program, directory, setup);
  }

  /** A helper whose guest runs. */
  static async running(program: string, setup: HelperSetup = { guest: true }): Promise<RawHelper> {
    const helper = await RawHelper.start(program, setup);
    await helper.ok('hello', { protocol: 1 });
    await helper.ok('configure', { config: helper.configuration() });
    await helper.ok('start');
    if (setup.guest === true) await helper.printed('the guest is up');
    return helper;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill('SIGKILL');
    await this.exited;
    await rm(this.directory, { recursive: true, force: true });
  }

  get pid(): number {
    return this.process.pid ?? -1;
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  configuration(changes: Partial<HelperConfiguration> = {}): HelperConfiguration {
    return {
      kernel: this.path('kernel'),
      initrd: this.path('initrd'),
      commandLine: 'console=hvc0',
      cpus: 2,
      memoryBytes: 1024 ** 3,
      disks: [],
      shares: [],
      rosetta: null,
      network: null,
      console: { path: this.path('console.log'), maxBytes: 1024 ** 2 },
      vsock: { path: this.path('vsock.sock') },
      nested: false,
      ...changes,
    };
  }

  write(line: string): void {
    this.process.stdin?.write(line);
  }

  /** Sends a request, and returns its reply. */
  async ask(op: string, keys: Message = {}): Promise<Message> {
    const id = (this.#lastId += 1);
    this.write(`${JSON.stringify({ id, op, ...keys })}\n`);
    return await this.message(`the reply to ${op}`, (message) => message['id'] === id);
  }

  async ok(op: string, keys: Message = {}): Promise<unknown> {
    const reply = await this.ask(op, keys);
    if (reply['ok'] !== true) throw new Error(`${op}: ${JSON.stringify(reply)}`);
    return reply['result'];
  }

  /** The error of a request. */
  async refused(op: string, keys: Message = {}): Promise<Message> {
    const reply = await this.ask(op, keys);
    if (reply['ok'] !== false) throw new Error(`${op} was not refused: ${JSON.stringify(reply)}`);
    return reply['error'] as Message;
  }

  /** The first message that matches, whether it has come or will. */
  async message(what: string, matches: (message: Message) => boolean): Promise<Message> {
    let look: () => void = () => undefined;
    const found = new Promise<Message>((resolve) => {
      look = () => {
        const message = this.messages.find(matches);
        if (message !== undefined) resolve(message);
      };
    });
    this.#looking.add(look);
    look();
    try {
      return await within(what, found);
    } finally {
      this.#looking.delete(look);
    }
  }

  async event(event: string): Promise<Message> {
    return await this.message(`the event ${event}`, (message) => message['event'] === event);
  }

  async end(): Promise<Exit> {
    return await within('the end of the helper', this.exited);
  }

  async console(): Promise<string> {
    return await readFile(this.path('console.log'), 'utf8');
  }

  async printed(text: string): Promise<void> {
    await waitUntil(`"${text}" on the console`, async () => (await this.console()).includes(text));
  }

  /** The configuration as the double understood it. */
  async machine(): Promise<unknown> {
    return JSON.parse(await readFile(this.path(`${this.pid}/machine.json`), 'utf8'));
  }

  /** The Unix socket of the guest's vsock; nothing has been said yet. */
  socket(): Socket {
    const socket = connect({ path: this.path('vsock.sock'), allowHalfOpen: true });
    socket.on('error', () => undefined);
    return socket;
  }

  /** Peak memory of the helper, in bytes. */
  async peakMemoryBytes(): Promise<number> {
    const status = await readFile(`/proc/${this.pid}/status`, 'utf8');
    return Number(/VmHWM:\s*(\d+) kB/.exec(status)?.[1]) * 1024;
  }
}
