import { writeFile } from 'node:fs/promises';

/**
 * Scores for the kernel's choice of a process to kill when memory runs out: a guest before anything of the host, and a
 * program that works for clients like any other of the host.
 */
export const OOM_SCORE = { supervisor: -900, client: 0, guest: 500 } as const;

/** Does nothing where there is no such choice, or this process may not influence it. */
export async function setOomScore(pid: number | 'self', score: number): Promise<void> {
  await writeFile(`/proc/${pid}/oom_score_adj`, String(score)).catch(() => undefined);
}
