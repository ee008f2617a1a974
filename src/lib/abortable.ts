/**
 * Settles as `promise` does, unless the signal aborts first: then the signal's reason is thrown, and a later
 * result of the promise is passed to `discard`. For work that cannot be stopped itself.
 */
export async function unlessAborted<T>(
  signal: AbortSignal,
  promise: Promise<T>,
  discard: (late: T) => void = () => undefined,
): Promise<T> {
  let onAbort = (): void => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => {
      promise.then(discard, () => undefined);
      reject(signal.reason as Error);
    };
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([aborted, promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
