/** Runs tasks one after the other, in the order in which they came. A task that fails does not hold up the next. */
export class Mutex {
  #tail: Promise<unknown> = Promise.resolve();

  run<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(task);
    this.#tail = result.catch(() => undefined);
    return result;
  }

  /** Waits for its turn, which lasts until the returned function is called. */
  async acquire(): Promise<() => void> {
    return await new Promise((granted) => {
      void this.run(async () => {
        await new Promise<void>((release) => {
          granted(release);
        });
      });
    });
  }
}
