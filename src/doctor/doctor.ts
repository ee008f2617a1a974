import { DroverError, errorMessage } from '../lib/errors.js';
import type { Check, DoctorContext, Finding } from './check.js';
import { BUILD_CHECKS } from './checks/build.js';
import { HOST_CHECKS } from './checks/host.js';
import { MAC_CHECKS } from './checks/mac.js';
import { NIX_CHECKS } from './checks/nix.js';
import { STORE_CHECKS } from './checks/store.js';

export const CHECKS: readonly Check[] = [
  ...HOST_CHECKS,
  ...NIX_CHECKS,
  ...STORE_CHECKS,
  ...MAC_CHECKS,
  ...BUILD_CHECKS,
];

export interface Diagnosis extends Omit<Finding, 'repair'> {
  readonly id: string;
  readonly title: string;
  /** `--fix` has done what `fix` says, and the check was run again. */
  readonly repaired: boolean;
}

/**
 * Runs the checks one after the other and reports each as it is done. A check that throws is a failure of that check.
 * @param repair does what can safely be done, and checks again
 */
export async function* diagnose(
  context: DoctorContext,
  { repair, checks = CHECKS }: { readonly repair: boolean; readonly checks?: readonly Check[] },
): AsyncGenerator<Diagnosis> {
  for (const check of checks) {
    let finding = await runCheck(check, context);
    let repaired = false;
    if (repair && finding.repair !== undefined) {
      try {
        await finding.repair();
        finding = await runCheck(check, context);
        repaired = finding.status === 'ok';
      } catch (error) {
        finding = { ...finding, seen: `${finding.seen}; the repair failed: ${errorMessage(error)}` };
      }
    }
    const { status, seen, fix } = finding;
    yield { id: check.id, title: check.title, status, seen, ...(fix === undefined ? {} : { fix }), repaired };
  }
}

async function runCheck(check: Check, context: DoctorContext): Promise<Finding> {
  try {
    return await check.run(context);
  } catch (error) {
    const hint = error instanceof DroverError ? error.hint : undefined;
    return { status: 'failure', seen: errorMessage(error), fix: hint ?? 'See the error.' };
  }
}
