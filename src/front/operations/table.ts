import { Op } from '../../protocol/operations.js';
import { serveBuild } from './build.js';
import type { OperationContext } from './context.js';
import { forward, relayUnknown } from './forward.js';
import { serveNar } from './nar.js';
import {
  serveAddTempRoot,
  serveIsValidPath,
  serveQueryPathInfo,
  serveQueryValidPaths,
  serveSyncWithGC,
} from './query.js';
import { QUESTIONS, serveAllValidPaths, serveDerivationOutputMap, serveFindRoots } from './questions.js';
import { REFUSALS } from './refused.js';
import { serveSetOptions } from './settings.js';
import { serveAddSignatures } from './signatures.js';
import { serveAddMultipleToStore, serveAddToStore, serveAddToStoreNar } from './upload.js';

/** Serves one request, its code being read. */
export type Operation = (context: OperationContext, op: number) => Promise<void>;

const SERVED: ReadonlyMap<number, Operation> = new Map<number, Operation>([
  [Op.SetOptions, serveSetOptions],
  [Op.IsValidPath, serveIsValidPath],
  [Op.QueryValidPaths, serveQueryValidPaths],
  [Op.QueryPathInfo, serveQueryPathInfo],
  [Op.AddTempRoot, serveAddTempRoot],
  [Op.SyncWithGC, serveSyncWithGC],
  [Op.BuildDerivation, serveBuild],
  [Op.AddToStore, serveAddToStore],
  [Op.AddToStoreNar, serveAddToStoreNar],
  [Op.AddMultipleToStore, serveAddMultipleToStore],
  [Op.NarFromPath, serveNar],
  [Op.EnsurePath, forward],
  [Op.QueryMissing, forward],
  [Op.BuildPaths, forward],
  [Op.BuildPathsWithResults, forward],
  [Op.RegisterDrvOutput, forward],
  [Op.QueryAllValidPaths, serveAllValidPaths],
  [Op.QueryDerivationOutputMap, serveDerivationOutputMap],
  [Op.FindRoots, serveFindRoots],
  [Op.AddSignatures, serveAddSignatures],
  ...QUESTIONS,
  ...REFUSALS,
]);

/** Serves any request. */
export async function serveOperation(context: OperationContext, op: number): Promise<void> {
  await (SERVED.get(op) ?? relayUnknown)(context, op);
}
