import { printable } from '../lib/printable.js';
import type { LogFrame } from '../protocol/log-scanner.js';
import { ACTIVITY_BUILD, RESULT_BUILD_LOG_LINE, RESULT_SET_PHASE } from '../protocol/stderr.js';

/** Activities remembered at once. A build has a handful, but its log can start any number (`@nix` lines). */
const MAX_OPEN_ACTIVITIES = 10_000;
/** Characters of a phase's name that are shown: builds choose it freely. */
const MAX_PHASE_LENGTH = 60;

/** Receives a tap's view of the frames. */
export interface TapListener {
  /** A builder was started. */
  onBuild(): void;
  /**
   * A line of the build's log, or a part of a long one, which `isEnd` tells.
   * @returns a promise to wait for before more frames are observed
   */
  onLog(text: string, isEnd: boolean): Promise<void> | undefined;
  /** Text of the guest's Nix that belongs to no activity. */
  onText(text: string): void;
  /** @param phase printable, and at most 60 characters before unprintable ones were escaped */
  onPhase(phase: string): void;
}

/** Watches the log frames of one build. It only observes: the bytes have gone to the client already. */
export class Tap {
  readonly #listener: TapListener;
  /** Activities that were started and not stopped: whether each is a build. */
  readonly #open = new Map<bigint, boolean>();

  constructor(listener: TapListener) {
    this.#listener = listener;
  }

  /** @returns a promise to wait for before the next frame, if the listener is behind */
  observe(frame: LogFrame): Promise<void> | undefined {
    if (frame.kind === 'start-activity') {
      if (this.#open.size >= MAX_OPEN_ACTIVITIES) return undefined;
      const isBuild = frame.activity.type === ACTIVITY_BUILD;
      this.#open.set(frame.activity.id, isBuild);
      if (isBuild) this.#listener.onBuild();
    } else if (frame.kind === 'stop-activity') {
      this.#open.delete(frame.id);
    } else if (frame.kind === 'next') {
      this.#listener.onText(frame.text);
    } else if (this.#open.get(frame.id) !== true) {
      return undefined;
    } else if (frame.kind === 'result-part') {
      if (frame.type === RESULT_BUILD_LOG_LINE) return this.#listener.onLog(frame.text, false);
    } else {
      const [field] = frame.fields;
      if (frame.type === RESULT_BUILD_LOG_LINE)
        return this.#listener.onLog(typeof field === 'string' ? field : '', true);
      if (frame.type === RESULT_SET_PHASE && typeof field === 'string')
        this.#listener.onPhase(printable(field.slice(0, MAX_PHASE_LENGTH)));
    }
    return undefined;
  }

  /** Activities that were started and not stopped. After the loss of a guest, the caller must stop them. */
  takeOpenActivities(): readonly bigint[] {
    const open = [...this.#open.keys()];
    this.#open.clear();
    return open;
  }
}
