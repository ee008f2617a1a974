import { createHash } from 'node:crypto';

import { DroverError } from '../lib/errors.js';
import { parseHash } from './hash.js';
import { NarParser } from './nar.js';
import type { PathInfo } from './path-info.js';
import type { StorePath } from './store-path.js';

/** The NAR's facts in a path info. */
export type NarFacts = Pick<PathInfo, 'narHash' | 'narSize'>;

/** A NAR that is not what its path info says. Its sender cannot be believed, nor anything that it sends after it. */
export class NarInvalidError extends DroverError {
  override readonly name = 'NarInvalidError';
  constructor(path: StorePath, what: string, cause?: unknown) {
    super('NAR_INVALID', `The NAR of ${path} ${what}`, { cause, context: { path } });
  }
}

/**
 * Compares a passing NAR with its path info: it must end exactly at the recorded size, and have the recorded
 * hash. The last bytes are accepted only if both are right, so a caller that passes on accepted bytes never
 * completes a wrong NAR.
 */
export class NarCheck {
  readonly #path: StorePath;
  readonly #facts: NarFacts;
  readonly #parser = new NarParser();
  readonly #hash = createHash('sha256');
  #bytes = 0;

  constructor(path: StorePath, facts: NarFacts) {
    this.#path = path;
    this.#facts = facts;
  }

  /** All of it has come, and is right. */
  get complete(): boolean {
    return this.#parser.ended;
  }

  /** Bytes accepted so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** SHA-256 of the bytes accepted so far. */
  get digest(): Buffer {
    return this.#hash.copy().digest();
  }

  /**
   * Accepts the next bytes.
   * @returns how many of them belong to the NAR: all, unless it ends among them
   * @throws NarInvalidError
   */
  take(chunk: Uint8Array): number {
    const { narSize } = this.#facts;
    const count = this.#parse(chunk);
    this.#bytes += count;
    // Very old databases do not know the size.
    if (narSize !== 0 && (this.#parser.ended ? this.#bytes !== narSize : this.#bytes >= narSize)) {
      const found = this.#parser.ended ? 'ends after' : 'goes on after';
      throw new NarInvalidError(this.#path, `${found} ${this.#bytes} bytes; its path info says ${narSize}`);
    }
    this.#hash.update(count === chunk.length ? chunk : chunk.subarray(0, count));
    if (this.#parser.ended) this.#requireHash();
    return count;
  }

  #parse(chunk: Uint8Array): number {
    try {
      return this.#parser.push(chunk);
    } catch (error) {
      throw new NarInvalidError(this.#path, 'is malformed', error);
    }
  }

  #requireHash(): void {
    const { digest } = this;
    if (digest.equals(parseHash(this.#facts.narHash, 'sha256').digest)) return;
    throw new NarInvalidError(
      this.#path,
      `has the SHA-256 ${digest.toString('hex')}; its path info says ${this.#facts.narHash}`,
    );
  }
}
