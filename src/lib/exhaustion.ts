import { DroverError, errorCode, errorMessage } from './errors.js';

interface Resource {
  readonly lacks: string;
  readonly hint: string;
}

const DESCRIPTORS: Resource = {
  lacks: 'no file descriptor is free',
  hint: 'Raise the limit of open files of Drover (LimitNOFILE= in a systemd unit), or close idle clients.',
};
const PROCESSES: Resource = {
  lacks: 'no further process can be started',
  hint: 'Raise the limit of processes of Drover (TasksMax= in a systemd unit), or lower pool.maxGuests.',
};
const MEMORY: Resource = {
  lacks: 'the host is out of memory',
  hint: 'Lower pool.maxGuests, guest.memory or guest.scratchSize.',
};
const SPACE: Resource = {
  lacks: 'the file system has no free space or no free inode',
  hint: 'Free some space there (see `df -h` and `df -i`), or choose another stateDir in the configuration.',
};

const RESOURCES: ReadonlyMap<string | undefined, Resource> = new Map([
  ['EMFILE', DESCRIPTORS],
  ['ENFILE', DESCRIPTORS],
  ['ENOMEM', MEMORY],
  ['ENOSPC', SPACE],
  ['EDQUOT', SPACE],
]);

/** EAGAIN means many things; of a fork it means that there are too many processes. */
function lacking(error: unknown): Resource | undefined {
  const code = errorCode(error);
  if (code !== 'EAGAIN') return RESOURCES.get(code);
  return String((error as NodeJS.ErrnoException).syscall).startsWith('spawn') ? PROCESSES : undefined;
}

/**
 * A `HOST_EXHAUSTED` error that says what the host lacks, where that is why something failed. It may pass by itself.
 * @param what failed: `nix-daemon cannot be started`
 * @returns undefined for any other failure
 */
export function exhaustion(error: unknown, what: string): DroverError | undefined {
  const resource = lacking(error);
  if (resource === undefined) return undefined;
  return new DroverError('HOST_EXHAUSTED', `${what}: ${resource.lacks} (${errorMessage(error)})`, {
    cause: error,
    hint: resource.hint,
  });
}

/** Whether the host's lack of something is behind an error. */
export function isExhaustion(error: unknown): boolean {
  return causes(error).some((cause) => errorCode(cause) === 'HOST_EXHAUSTED' || lacking(cause) !== undefined);
}

export function isDiskFull(error: unknown): boolean {
  return causes(error).some((cause) => lacking(cause) === SPACE);
}

function causes(error: unknown): unknown[] {
  const all: unknown[] = [];
  for (let cause = error; typeof cause === 'object' && cause !== null; cause = (cause as Error).cause)
    all.push(cause);
  return all;
}
