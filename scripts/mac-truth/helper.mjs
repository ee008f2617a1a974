// One vz-helper and its guest, with nothing of Drover in between: vz-helper/PROTOCOL.md.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

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

export class Helper {
  events = [];
  #waiting = new Map();
  #lastId = 0;

  constructor(program, configuration) {
    this.configuration = configuration;
    this.process = spawn(program, [], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.ended = once(this.process, 'close');
    this.process.stdin.on('error', () => undefined);
    createInterface({ input: this.process.stdout }).on('line', (line) => {
      const message = JSON.parse(line);
      if (message.event === undefined) this.#waiting.get(message.id)?.(message);
      else this.events.push(message);
    });
    // A request that the helper does not live to answer.
    void this.ended.then(() => {
      for (const answer of this.#waiting.values()) answer({ error: { text: 'vz-helper has ended' } });
    });
  }

  async ask(op, keys = {}) {
    const id = (this.#lastId += 1);
    const answer = new Promise((resolve) => this.#waiting.set(id, resolve));
    this.process.stdin.write(`${JSON.stringify({ id, op, ...keys })}\n`);
    const { ok, result, error } = await answer;
    if (ok !== true) throw new Error(`${op}: ${error.domain ?? ''} ${error.code ?? ''} ${error.text}`);
    return result;
  }

  /** Boots the guest, and returns how long each step took, in milliseconds. */
  async boot() {
    const begin = performance.now();
    const since = () => Math.round(performance.now() - begin);
    await this.ask('hello', { protocol: 1 });
    await this.ask('configure', { config: this.configuration });
    const configured = since();
    await this.ask('start');
    const started = since();
    const up = await eventually(60_000, () => this.boots() > 0);
    if (up === undefined) throw new Error(`the guest did not come up: ${this.console().slice(-400)}`);
    const printed = since();
    await this.command('names');
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
    // Byte by byte: what follows the line is the guest's.
    const line = [];
    while (line.at(-1) !== 10) {
      const byte = socket.read(1);
      if (byte !== null) line.push(byte[0]);
      else if (socket.readableEnded || socket.destroyed) break;
      else await Promise.race(['readable', 'end', 'close'].map(async (event) => await once(socket, event)));
    }
    const head = Buffer.from(line).toString().trim();
    if (head.startsWith('OK ')) return socket;
    socket.destroy();
    throw new Error(head || 'closed without a word');
  }

  /** The guest's answer to one question of guest.sh. */
  async command(words) {
    const socket = await this.connect(11);
    socket.write(`${words}\n`);
    let text = '';
    for await (const bytes of socket) text += bytes.toString();
    socket.destroy();
    return text.trim();
  }

  async close() {
    this.process.stdin.end();
    await Promise.race([this.ended, new Promise((resolve) => setTimeout(resolve, 5_000).unref())]);
    this.process.kill('SIGKILL');
  }
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
