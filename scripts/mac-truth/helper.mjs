// One vz-helper and its guest, with nothing of Drover in between: vz-helper/PROTOCOL.md.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { machines } from './host.mjs';

/** Longest wait for a reply of the helper, or for a connection to the guest, in milliseconds. */
const REPLY_MS = 60_000;
/** Longest wait for the guest's answer, for which it may have to read every file of the share. */
const ANSWER_MS = 600_000;

/** Resolves once `condition` answers anything but undefined or false; undefined after `ms`. */
export async function eventually(ms, condition) {
  const end = performance.now() + ms;
  for (;;) {
    const answer = await condition();
    if (answer !== undefined && answer !== false) return answer;
    if (performance.now() > end) return undefined;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The result of `promise`. @throws Error after `ms` */
export async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: no answer within ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

export class Helper {
  events = [];
  #machines = [];
  #waiting = new Map();
  #lastId = 0;
  #end = undefined;

  constructor(program, configuration) {
    this.configuration = configuration;
    this.process = spawn(program, [], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.ended = new Promise((resolve) => {
      const end = (why) => {
        this.#fail(why);
        resolve();
      };
      this.process.once('error', (error) => end(error.message));
      this.process.once('close', (code, signal) => end(`vz-helper has ended (${signal ?? code})`));
    });
    this.process.stdin.on('error', () => undefined);
    createInterface({ input: this.process.stdout }).on('line', (line) => this.#take(line));
  }

  #take(line) {
    let message;
    try {
      message = JSON.parse(line);
    } catch {
      this.#fail(`vz-helper sent an invalid message: ${line.slice(0, 200)}`);
      return;
    }
    if (message.event === undefined) this.#waiting.get(message.id)?.(message);
    else this.events.push(message);
  }

  /** No request is answered from now on. */
  #fail(why) {
    this.#end ??= why;
    for (const answer of this.#waiting.values()) answer({ error: { text: this.#end } });
  }

  async ask(op, keys = {}) {
    if (this.#end !== undefined) throw new Error(`${op}: ${this.#end}`);
    const id = (this.#lastId += 1);
    const reply = new Promise((resolve) => this.#waiting.set(id, resolve));
    this.process.stdin.write(`${JSON.stringify({ id, op, ...keys })}\n`);
    const { ok, result, error } = await within(REPLY_MS, op, reply);
    this.#waiting.delete(id);
    if (ok === true) return result;
    const why = [error?.domain, error?.code, error?.text].filter((word) => word !== undefined);
    throw new Error(`${op}: ${why.join(' ') || 'neither a result nor an error'}`);
  }

  /** The processes that are this helper's virtual machine. @throws Error if none has been seen */
  get machines() {
    if (this.#machines.length === 0) throw new Error('no process of the virtual machine was found');
    return this.#machines;
  }

  /** Boots the guest, and returns how long each step took, in milliseconds. */
  async boot() {
    const begin = performance.now();
    const since = () => Math.round(performance.now() - begin);
    const others = machines(this.process.pid);
    await this.ask('hello', { protocol: 1 });
    await this.ask('configure', { config: this.configuration });
    const configured = since();
    await this.ask('start');
    const started = since();
    const up = await eventually(60_000, () => this.boots() > 0);
    if (up === undefined) throw new Error(`the guest did not come up: ${this.console().slice(-400)}`);
    const printed = since();
    await this.command('names');
    this.#machines = machines(this.process.pid).filter((pid) => !others.includes(pid));
    return { configured, started, printed, answered: since() };
  }

  console() {
    try {
      return readFileSync(this.configuration.console.path, 'utf8');
    } catch {
      return '';
    }
  }

  /** Number of times that the guest has come up: more than once if the machine was reset in place. */
  boots() {
    return this.console().split('truth: the guest is up').length - 1;
  }

  /** A connection to a vsock port of the guest. @throws Error with the helper's own words */
  async connect(port) {
    const socket = connect({ path: this.configuration.vsock.path, allowHalfOpen: true });
    socket.on('error', () => undefined);
    socket.write(`CONNECT ${port}\n`);
    try {
      const head = await within(REPLY_MS, `port ${port}`, firstLine(socket));
      if (head.startsWith('OK ')) return socket;
      throw new Error(head || 'closed without a word');
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  /** The guest's answer to one question of guest.sh. @throws Error if there is none */
  async command(words) {
    const answer = await this.tell(words);
    if (answer === '') throw new Error(`the guest did not answer: ${words}`);
    return answer;
  }

  /** The same for what may end the guest before it answers. */
  async tell(words) {
    const socket = await this.connect(11);
    socket.write(`${words}\n`);
    try {
      return await within(ANSWER_MS, words, text(socket));
    } finally {
      socket.destroy();
    }
  }

  async close() {
    this.process.stdin.end();
    await Promise.race([this.ended, new Promise((resolve) => setTimeout(resolve, 5_000).unref())]);
    this.process.kill('SIGKILL');
  }
}

async function firstLine(socket) {
  // Byte by byte: what follows the line is the guest's.
  const line = [];
  while (line.at(-1) !== 10) {
    const byte = socket.read(1);
    if (byte !== null) line.push(byte[0]);
    else if (socket.readableEnded || socket.destroyed) break;
    else await Promise.race(['readable', 'end', 'close'].map(async (event) => await once(socket, event)));
  }
  return Buffer.from(line).toString().trim();
}

async function text(socket) {
  let all = '';
  for await (const bytes of socket) all += bytes.toString();
  return all.trim();
}

/** The configuration of a guest whose files are in `directory`, a new one for each. */
export function configurationOf({ image, store, directory, extra = '' }) {
  return {
    kernel: join(image, 'kernel'),
    initrd: join(image, 'initrd'),
    commandLine: `console=hvc0 rdinit=/init panic=1 ${extra}`.trim(),
    cpus: 1,
    memoryBytes: 1024 ** 3,
    disks: [],
    shares: [{ tag: 'store', path: store, readOnly: true }],
    rosetta: null,
    network: { mac: '52:54:00:00:00:01' },
    console: { path: join(directory, 'console.log'), maxBytes: 4 * 1024 ** 2 },
    vsock: { path: join(directory, 'vsock.sock') },
    nested: false,
  };
}
