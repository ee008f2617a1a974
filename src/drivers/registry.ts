import { DroverError, errorMessage } from '../lib/errors.js';
import type { GuestDriver } from '../guest/driver.js';

/** A driver that may work here. */
export interface DriverCandidate {
  readonly name: string;
  /** @throws DroverError whatever keeps it from working on this host */
  readonly create: () => Promise<GuestDriver>;
}

/**
 * The first candidate that works.
 * @throws DroverError that of the only candidate; or, of several, one with the first one's code and the reasons of all
 */
export async function firstThatWorks(candidates: readonly DriverCandidate[]): Promise<GuestDriver> {
  const failures: { name: string; error: unknown }[] = [];
  for (const { name, create } of candidates) {
    try {
      return await create();
    } catch (error) {
      failures.push({ name, error });
    }
  }
  const [first] = failures;
  if (failures.length === 1) throw first?.error;
  const error = first?.error instanceof DroverError ? first.error : undefined;
  throw new DroverError(
    error?.code ?? 'REQUIREMENT_MISSING',
    `No driver works here: ${failures.map((f) => `${f.name}: ${errorMessage(f.error)}`).join('; ')}`,
    {
      cause: first?.error,
      hint: [
        ...new Set(failures.flatMap((f) => (f.error instanceof DroverError ? (f.error.hint ?? []) : []))),
      ].join(' '),
    },
  );
}
