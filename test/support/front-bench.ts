import type { Duplex } from 'node:stream';

import { pino } from 'pino';

import type { ClientIdentity, ClientPolicy } from '../../src/front/identity.js';
import type { FrontEvent } from '../../src/front/events.js';
import { Front, type FrontOptions } from '../../src/front/front.js';
import { CountingJournal, type BuildJournal } from '../../src/front/journal.js';
import { GuestAgent } from '../../src/guest/agent.js';
import { CaseHackDetector } from '../../src/guest/case-hack.js';
import type { Listings } from '../../src/guest/stored-listings.js';
import { Handshakes } from '../../src/daemon/hang-watch.js';
import { IdleConnections } from '../../src/daemon/idle-connections.js';
import { GuestStore } from '../../src/guest/provision.js';
import type { HostStore } from '../../src/host-store/host-store.js';
import { WorkerClient } from '../../src/daemon/worker-client.js';
import { DroverError } from '../../src/lib/errors.js';
import type { Lease, LeasedGuest, Leaser, LeaseRequest } from '../../src/pool/lease.js';
import type { Channel } from '../../src/daemon/channel.js';
import { decodeStderrFrame } from '../../src/protocol/stderr.js';
import { LATEST_VERSION } from '../../src/protocol/version.js';
import { connectedPair } from './connected-pair.js';
import { FakeClock } from './fake-clock.js';
import { ScriptedDaemon, VERSION } from './scripted-daemon.js';

/** A trusted client of the socket door. */
export const HOST_CLIENT: ClientIdentity = { door: 'socket', domain: 'uid:0', name: 'uid 0', trusted: true };

/** A client of the ssh door that is not trusted. */
export const STRANGER: ClientIdentity = {
  door: 'ssh',
  domain: 'key:SHA256:stranger',
  name: 'stranger',
  trusted: false,
};

export const SILENT = pino({ level: 'silent' });

/** A guest that is a daemon and nothing else; registering paths makes them valid in it. */
export class BenchGuest implements LeasedGuest {
  readonly id: string;
  readonly generation = 'test';
  readonly daemon = new ScriptedDaemon();
  readonly agent: GuestAgent;
  readonly store: GuestStore;
  readonly connections = new IdleConnections();
  readonly handshakes = new Handshakes();
  readonly #lost = new AbortController();
  /** Registrations that drover-guest received. */
  readonly registrations: string[] = [];
  /** Whether it was to forget what it had looked at, for each of them. */
  readonly forgets: boolean[] = [];
  /** Paths that it does not see. */
  readonly invisible = new Set<string>();
  /** Runs before each registration. */
  beforeRegister: () => Promise<void> = () => Promise.resolve();
  openDaemon: () => Promise<Duplex> = () => Promise.resolve(this.daemon.connect());

  constructor(id: string, rememberedFiles?: number, listings?: Listings) {
    this.id = id;
    this.agent = new GuestAgent({
      exec: async ([, verb, again], stdin = '') => {
        if (verb !== 'register') return { exitCode: 1, stdout: '', stderr: 'not scripted' };
        const registration = await stdin;
        await this.beforeRegister();
        const missing = registeredPaths(registration).filter((path) => this.invisible.has(path));
        if (missing.length > 0) return { exitCode: 3, stdout: `${missing.join('\n')}\n`, stderr: '' };
        this.registrations.push(registration);
        this.forgets.push(again === '--again');
        return { exitCode: 0, stdout: '', stderr: '' };
      },
    });
    this.store = new GuestStore(this.agent, SILENT, { rememberedFiles, listings });
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  lose(): void {
    this.#lost.abort(new DroverError('GUEST_LOST', `The guest ${this.id} was lost: unplugged`));
    this.daemon.die();
  }
}

interface Waiter {
  readonly request: LeaseRequest;
  readonly resolve: (lease: Lease) => void;
}

/** Grants a new guest to every request, unless told to let them wait. */
export class BenchLeaser implements Leaser {
  readonly guests: BenchGuest[] = [];
  readonly retired: { guest: string; reason: string }[] = [];
  readonly waiting: Waiter[] = [];
  readonly requests: LeaseRequest[] = [];
  /** Whether other sessions use the guests, too. */
  shared = false;
  held = 0;
  granted = 0;
  paused = false;
  /** Whether others wait for the slots that are granted from now on. */
  wanted = false;
  /** Makes the next guest; by default a new one. */
  next: () => BenchGuest = () => new BenchGuest(`g${this.granted + 1}`);

  async lease(request: LeaseRequest): Promise<Lease> {
    request.signal.throwIfAborted();
    this.requests.push(request);
    if (!this.paused) return this.#grant();
    return await new Promise<Lease>((resolve, reject) => {
      const waiter = { request, resolve };
      this.waiting.push(waiter);
      request.signal.addEventListener('abort', () => {
        this.waiting.splice(this.waiting.indexOf(waiter), 1);
        reject(request.signal.reason as Error);
      });
    });
  }

  #grant(): Lease {
    const guest = this.next();
    if (!this.guests.includes(guest)) this.guests.push(guest);
    this.granted += 1;
    this.held += 1;
    let returned = false;
    return {
      guest,
      shared: this.shared,
      wanted: this.wanted,
      retire: (reason) => this.retired.push({ guest: guest.id, reason }),
      keep: () => true,
      [Symbol.asyncDispose]: () => {
        if (!returned) this.held -= 1;
        returned = true;
        return Promise.resolve();
      },
    };
  }
}

/** A front with nothing real before or behind it. */
export class FrontBench {
  readonly clock = new FakeClock();
  readonly hostDaemon = new ScriptedDaemon();
  readonly leaser = new BenchLeaser();
  readonly events: FrontEvent[] = [];
  /** That it builds now. */
  systems = ['x86_64-linux'];
  translated: ReadonlySet<string> = new Set();
  /** Why no further session is served. */
  overload: DroverError | undefined;
  policy: ClientPolicy = {
    ...{ confined: true, trustedPublicKeys: [], keepFailedMs: 0, substituters: new Set() },
  };
  readonly front: Front;

  constructor(
    host?: Pick<HostStore, 'connect'>,
    leaser?: Leaser,
    journal?: BuildJournal,
    { audit, signer }: Partial<Pick<FrontOptions, 'audit' | 'signer'>> = {},
  ) {
    this.front = new Front({
      overload: () => this.overload,
      manifest: {
        generation: 'test',
        nixVersion: '2.8.0',
        protocol: { major: VERSION.major, minor: VERSION.minor, features: [] },
        systems: ['x86_64-linux'],
      },
      systems: () => this.systems,
      translated: () => this.translated,
      policy: () => this.policy,
      host: host ?? {
        connect: () =>
          WorkerClient.connect(this.hostDaemon.connect(), LATEST_VERSION, "The host's nix-daemon"),
      },
      leaser: leaser ?? this.leaser,
      caseHack: new CaseHackDetector(),
      audit,
      signer,
      journal: journal ?? new CountingJournal(),
      clock: this.clock,
      log: SILENT,
    });
    this.front.events.on((event) => this.events.push(event));
  }

  /** The first guest that was granted. */
  get guest(): BenchGuest {
    const [guest] = this.leaser.guests;
    if (guest === undefined) throw new Error('no guest was granted');
    return guest;
  }

  /** A raw connection; `served` settles when its session has ended. */
  open(identity = HOST_CLIENT): { stream: Duplex; served: Promise<void> } {
    const [client, server] = connectedPair();
    return { stream: client, served: this.front.serve(server, identity) };
  }

  /** A connection past its handshake. */
  async client(
    identity = HOST_CLIENT,
  ): Promise<{ client: WorkerClient; channel: Channel; stream: Duplex; served: Promise<void> }> {
    const { stream, served } = this.open(identity);
    const client = await WorkerClient.connect(stream, VERSION, 'The front');
    return { client, channel: client.channel, stream, served };
  }
}

/** Reads log frames up to the response, or the error: its text. */
export async function outcome(channel: Channel): Promise<string | undefined> {
  for (;;) {
    const frame = await channel.run(decodeStderrFrame());
    if (frame.kind === 'last') return undefined;
    if (frame.kind === 'error') return frame.error.message;
  }
}

/** The paths of a registration, in order. */
export function registeredPaths(registration: string): string[] {
  return [...registration.matchAll(/^--p (.*)$/gm)].map(([, path = '']) => path);
}
