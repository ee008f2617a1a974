/**
 * What `promise` gives, unless the signal comes first: then its reason is thrown, and what the promise still gives is
 * handed to `discard`. For work that cannot be stopped itself.
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
