import type { ImageManifest } from '../drivers/driver.js';
import type { Clock } from '../lib/clock.js';
import { DroverError, errorMessage } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import type { Channel } from '../protocol/channel.js';
import { serverHandshake } from '../protocol/handshake.js';
import {
  decodeAddTempRoot,
  decodeBuildDerivation,
  decodeIsValidPath,
  decodeOp,
  decodeQueryPathInfo,
  decodeQueryValidPaths,
  decodeSetOptions,
  Op,
} from '../protocol/operations.js';
import {
  decodeAddToStoreResponse,
  encodeBoolResponse,
  encodeDoneResponse,
  encodePathInfoResponse,
  encodeStorePathsResponse,
} from '../protocol/responses.js';
import { decodeStderrFrame, encodeErrorFrame, encodeStderrFrame } from '../protocol/stderr.js';
import type { StorePath } from '../protocol/store-path.js';
import {
  decodeAddedPath,
  decodeAddMultipleToStore,
  decodeAddToStore,
  decodeAddToStoreNar,
  decodePathCount,
  encodePathCount,
} from '../protocol/uploads.js';
import { intersectVersions, LATEST_VERSION, type ProtocolVersion } from '../protocol/version.js';
import type { Conversation } from '../protocol/wire.js';
import { WireWriter } from '../protocol/wire-writer.js';
import { Backend, type BackendOptions } from './backend.js';
import { forwardBuild, type BuildProgress } from './build.js';
import type { BuildSnapshot, DoorName } from './events.js';
import { forwardedRequest } from './requests.js';
import { FramedInput } from './upload.js';

/** A client that has begun a message must go on sending it within this time, in milliseconds. */
export const STALL_TIMEOUT_MS = 60_000;

const LAST = encodeStderrFrame({ kind: 'last' });

export interface SessionOptions extends Omit<BackendOptions, 'version' | 'gone'> {
  readonly id: number;
  readonly door: DoorName;
  readonly manifest: ImageManifest;
  /** Nix systems that are built here. */
  readonly systems: readonly string[];
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * One connection of a Nix client, from handshake to close.
 *
 *   answering ── an operation that needs a guest ──► leased ── an operation of unknown length ──► relaying
 *
 * While answering, everything comes from the host's store: a client may stay here for minutes, waiting for its turn to
 * upload, without holding a lease. Leased, the guest is asked first and the host's store second, and whatever an
 * operation speaks of is made valid in the guest before the guest sees it. Relaying, bytes are bytes.
 */
export class Session {
  readonly #channel: Channel;
  readonly #options: SessionOptions;
  #version: ProtocolVersion = LATEST_VERSION;
  #build:
    | (BuildProgress & { readonly derivation: string; readonly system: string; readonly startedAt: number })
    | undefined;

  constructor(channel: Channel, options: SessionOptions) {
    this.#channel = channel;
    this.#options = options;
  }

  /** The build that goes on, if one does. */
  get build(): BuildSnapshot | undefined {
    if (this.#build === undefined) return undefined;
    const { id, door, clock } = this.#options;
    const { startedAt, derivation, system, guest, phase } = this.#build;
    return {
      session: id,
      door,
      derivation,
      system,
      guest,
      phase,
      seconds: Math.round((clock.now() - startedAt) / 1000),
    };
  }

  /**
   * Serves the client until it goes. A failure is told to the client, as Nix tells it, and ends the session.
   * @returns what went wrong, if something did
   */
  async run(): Promise<unknown> {
    try {
      await this.#handshake();
      await using backend = new Backend({
        ...this.#options,
        version: this.#version,
        gone: this.#channel.gone,
      });
      while (await this.#channel.waitForInput()) {
        if (!(await this.#serve(await this.#receive(decodeOp()), backend))) break;
      }
      return undefined;
    } catch (error) {
      if (this.#channel.gone.aborted && !(error instanceof DroverError && error.code === 'CLIENT_STALLED'))
        return error;
      await this.#tell(error);
      return error;
    } finally {
      this.#channel.end();
    }
  }

  async #handshake(): Promise<void> {
    const { manifest } = this.#options;
    const image = { ...manifest.protocol, features: new Set(manifest.protocol.features) };
    const conversation = serverHandshake({
      version: intersectVersions(LATEST_VERSION, image),
      nixVersion: manifest.nixVersion,
      trusted: true,
    });
    if (!(await this.#channel.waitForInput()))
      throw new DroverError('CLIENT_GONE', 'The client left without a word');
    ({ version: this.#version } = await this.#receive(conversation));
  }

  /** @returns whether the session goes on */
  async #serve(op: number, backend: Backend): Promise<boolean> {
    switch (op) {
      case Op.SetOptions: {
        const request = await this.#capture(op, decodeSetOptions(this.#version));
        await backend.setSettings(request.raw);
        await this.#answer();
        return true;
      }
      case Op.IsValidPath: {
        const path = await this.#receive(decodeIsValidPath(this.#version));
        await this.#answer(encodeBoolResponse((await this.#validPaths([path], false, backend)).length > 0));
        return true;
      }
      case Op.QueryValidPaths: {
        const { paths, substitute } = await this.#receive(decodeQueryValidPaths(this.#version));
        await this.#answer(encodeStorePathsResponse(await this.#validPaths(paths, substitute, backend)));
        return true;
      }
      case Op.QueryPathInfo: {
        const path = await this.#receive(decodeQueryPathInfo(this.#version));
        const [theirs] = (await backend.guest?.queryPathInfos([path])) ?? [];
        const [ours] = theirs === undefined ? await (await backend.host()).queryPathInfos([path]) : [];
        await this.#answer(encodePathInfoResponse(theirs ?? ours, this.#version));
        return true;
      }
      case Op.AddTempRoot: {
        const path = await this.#receive(decodeAddTempRoot(this.#version));
        await (await backend.host()).addTempRoots([path]);
        await this.#answer(encodeDoneResponse());
        return true;
      }
      case Op.BuildDerivation:
        await this.#serveBuild(op, backend);
        return true;
      case Op.AddToStore:
      case Op.AddToStoreNar:
        await this.#serveUpload(op, backend);
        return true;
      case Op.AddMultipleToStore:
        await this.#serveUploads(op, backend);
        return true;
      default:
        return await this.#serveByGuest(op, backend);
    }
  }

  /** Valid on the host or in the guest: to the client the two are one store. */
  async #validPaths(
    paths: readonly StorePath[],
    substitute: boolean,
    backend: Backend,
  ): Promise<StorePath[]> {
    const onHost = await (await backend.host()).queryValidPaths(paths, substitute);
    const inGuest = (await backend.guest?.queryValidPaths(paths)) ?? [];
    return [...new Set([...onHost, ...inGuest])].sort();
  }

  async #serveBuild(op: number, backend: Backend): Promise<void> {
    const { value, raw } = await this.#capture(op, decodeBuildDerivation(this.#version));
    const { clock, events, log, systems } = this.#options;
    const { platform } = value.derivation;
    if (platform !== 'builtin' && !systems.includes(platform)) {
      await this.#channel.write(encodeErrorFrame(notServed(platform, systems)));
      return;
    }
    const progress = {
      derivation: value.drvPath,
      system: platform,
      startedAt: clock.now(),
      guest: null,
      phase: null,
    };
    this.#build = progress;
    try {
      await forwardBuild(value, raw, { client: this.#channel, backend, clock, events, log, progress });
    } finally {
      this.#build = undefined;
    }
  }

  /** AddToStore and AddToStoreNar: a header, and a stream of data. */
  async #serveUpload(op: number, backend: Backend): Promise<void> {
    const isNar = op === Op.AddToStoreNar;
    const { value: references, raw } = isNar
      ? await this.#captureMapped(op, decodeAddToStoreNar(this.#version), ({ info }) =>
          info.references.filter((path) => path !== info.path),
        )
      : await this.#captureMapped(op, decodeAddToStore(this.#version), (header) => header.references);
    const guest = await this.#guestFor([], backend);
    backend.bind();
    await backend.provisionMentioned(references);
    for (const part of raw) await guest.write(part);
    await this.#watchingStalls(new FramedInput(this.#channel).finish(guest));
    await this.#relayResponse(guest, isNar ? undefined : decodeAddToStoreResponse(this.#version));
  }

  /** AddMultipleToStore: what a path refers to must be valid in the guest before the path gets there. */
  async #serveUploads(op: number, backend: Backend): Promise<void> {
    const { raw } = await this.#capture(op, decodeAddMultipleToStore(this.#version));
    const input = new FramedInput(this.#channel);
    const { value: count } = await this.#watchingStalls(input.receive(decodePathCount()));
    if (count === 0) {
      // Nix 2.8 sends this even when it has nothing to upload: no reason to boot a guest.
      await this.#watchingStalls(input.expectEnd());
      await this.#answer();
      return;
    }
    const guest = await this.#guestFor([], backend);
    backend.bind();
    for (const part of raw) await guest.write(part);
    await input.put(guest, [encodePathCount(count)]);
    for (let i = 0; i < count; i++) {
      const { value: info, raw: header } = await this.#watchingStalls(input.receive(decodeAddedPath()));
      await backend.provisionMeanwhile(info.references.filter((path) => path !== info.path));
      await input.put(guest, header);
      await this.#watchingStalls(input.pass(guest, info.narSize));
    }
    await this.#watchingStalls(input.finish(guest));
    await this.#relayResponse(guest, undefined);
  }

  /** Everything else is the guest's: passed on, or, when its end is not known, the rest of the session with it. */
  async #serveByGuest(op: number, backend: Backend): Promise<boolean> {
    const known = forwardedRequest(op, this.#version);
    if (known === undefined) {
      const guest = await this.#guestFor([], backend);
      await guest.write(encodeOp(op));
      await this.#relay(guest);
      return false;
    }
    const { value: mentions, raw } = await this.#capture(op, known.request(this.#version));
    const { roots, missing } = await backend.lookUpBuild(mentions.derivations);
    const guest = await this.#guestFor(missing, backend);
    backend.bind();
    await backend.provisionMentioned([...mentions.paths, ...roots]);
    const narSize = known.response === 'nar' ? await this.#narSize(mentions.paths, backend) : undefined;
    for (const part of raw) await guest.write(part);
    if (known.response === 'nar') return await this.#relayNar(guest, narSize);
    await this.#relayResponse(guest, known.response(this.#version));
    return true;
  }

  async #guestFor(outputs: readonly StorePath[], backend: Backend): Promise<Channel> {
    const guest = backend.guest ?? (await backend.takeGuest(outputs)).guest;
    return guest.channel;
  }

  async #narSize(paths: readonly StorePath[], backend: Backend): Promise<number | undefined> {
    const [info] = (await backend.guest?.queryPathInfos(paths)) ?? [];
    return info?.narSize;
  }

  async #relayNar(guest: Channel, narSize: number | undefined): Promise<boolean> {
    if (!(await this.#relayFrames(guest))) return true;
    if (narSize === undefined || narSize === 0) {
      await this.#relay(guest);
      return false;
    }
    for (let left = narSize; left > 0;) {
      const parts = await guest.readSome(left);
      if (parts.length === 0) throw guestGone();
      for (const part of parts) {
        left -= part.length;
        await this.#channel.write(part);
      }
    }
    return true;
  }

  async #relayResponse(guest: Channel, response: Conversation<unknown> | undefined): Promise<void> {
    if (!(await this.#relayFrames(guest)) || response === undefined) return;
    const { raw } = await guest.receive(response);
    for (const part of raw) await this.#channel.write(part);
  }

  /** @returns whether a response follows, not an error */
  async #relayFrames(guest: Channel): Promise<boolean> {
    const hangUp = (): void => {
      guest.destroy();
    };
    this.#channel.gone.addEventListener('abort', hangUp, { once: true });
    try {
      for (;;) {
        const { value: frame, raw } = await guest.receive(decodeStderrFrame());
        for (const part of raw) await this.#channel.write(part);
        if (frame.kind === 'last') return true;
        if (frame.kind === 'error') return false;
      }
    } finally {
      this.#channel.gone.removeEventListener('abort', hangUp);
    }
  }

  /** Both ways, until either side ends. */
  async #relay(guest: Channel): Promise<void> {
    const up = this.#channel.relayTo(guest).finally(() => {
      guest.destroy();
    });
    await guest.relayTo(this.#channel).finally(() => {
      this.#channel.end();
    });
    await up.catch(() => undefined);
  }

  async #answer(response?: Uint8Array): Promise<void> {
    await this.#channel.write(response === undefined ? LAST : Buffer.concat([LAST, response]));
  }

  async #receive<T>(conversation: Conversation<T>): Promise<T> {
    return await this.#watchingStalls(this.#channel.run(conversation));
  }

  /** A request with all its bytes, the operation's code included. */
  async #capture<T>(op: number, payload: Conversation<T>): Promise<{ value: T; raw: readonly Uint8Array[] }> {
    const { value, raw } = await this.#watchingStalls(this.#channel.receive(payload));
    return { value, raw: [encodeOp(op), ...raw] };
  }

  async #captureMapped<T, U>(
    op: number,
    payload: Conversation<T>,
    map: (value: T) => U,
  ): Promise<{ value: U; raw: readonly Uint8Array[] }> {
    const { value, raw } = await this.#capture(op, payload);
    return { value: map(value), raw };
  }

  /** In the middle of a message the client must go on; between messages it may take its time. */
  async #watchingStalls<T>(work: Promise<T>): Promise<T> {
    const { clock } = this.#options;
    let seen = this.#channel.receivedBytes;
    let cancel = (): void => undefined;
    const arm = (): void => {
      cancel = clock.after(STALL_TIMEOUT_MS, () => {
        if (this.#channel.receivedBytes === seen) this.#channel.interrupt(stalled());
        seen = this.#channel.receivedBytes;
        arm();
      });
    };
    arm();
    return await work.finally(() => {
      cancel();
    });
  }

  async #tell(error: unknown): Promise<void> {
    const hint = error instanceof DroverError && error.hint !== undefined ? `\n${error.hint}` : '';
    try {
      await this.#channel.write(encodeErrorFrame(`drover: ${errorMessage(error)}${hint}`));
    } catch {
      // The client has gone meanwhile: there is nobody to tell.
    }
  }
}

function encodeOp(op: number): Uint8Array {
  return new WireWriter().u64(op).finish();
}

function notServed(platform: string, systems: readonly string[]): string {
  return (
    `drover: this derivation is for ${platform}, and guests here build ${systems.join(', ')}\n` +
    'Take the system out of the machines file, or add a builder for it.'
  );
}

function stalled(): DroverError {
  return new DroverError(
    'CLIENT_STALLED',
    `The client stopped in the middle of a message for ${STALL_TIMEOUT_MS / 1000} s`,
    {
      hint: 'The connection was closed; the build can be started again.',
    },
  );
}

function guestGone(): DroverError {
  return new DroverError('GUEST_LOST', 'The guest was lost while it sent a path', {
    hint: 'Start the build again.',
  });
}
