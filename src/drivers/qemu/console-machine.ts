import type { Machine } from '../../guest/driver.js';
import { ConsoleMachine } from '../vm/console-machine.js';
import { OUT_OF_DESCRIPTORS } from './guest.js';
import { startParts, type PartsSpec } from './parts.js';

/** Starts a QEMU whose console is the user's. @throws DroverError; nothing of the machine is left then */
export async function startConsoleMachine(
  spec: Omit<PartsSpec, 'stdin' | 'cleanUp'> & { readonly cleanUp: (isOfUse: boolean) => Promise<void> },
  signal: AbortSignal,
): Promise<Machine> {
  const cleanUp = async (): Promise<void> => {
    await spec.cleanUp(true);
  };
  const { qemu, store, share, sshPort } = await startParts({ ...spec, stdin: 'pipe', cleanUp }, signal);
  // No one answers there: the supervisor has no business in the machine.
  sshPort.on('error', () => undefined).resume();
  const { consoleLog } = spec;
  const { stdin, stdout, stderr } = qemu.process;
  if (stdin === null || stdout === null || stderr === null) throw new TypeError('QEMU has no pipes');
  for (const stream of [stdout, stderr]) consoleLog.follow(stream);
  const shared = [store, share].filter((each) => each !== undefined);
  return new ConsoleMachine({
    process: { name: 'QEMU', exited: qemu.exited },
    endedWell: () => qemu.process.exitCode === 0,
    restartsAfterPanic: false,
    faults: shared.flatMap(({ child, descriptors }) => [
      child.exited.then((how) => `its virtiofsd: ${how}`),
      descriptors.exhausted.then(() => OUT_OF_DESCRIPTORS),
    ]),
    source: stdout,
    input: stdin,
    killAll: async () => {
      await qemu.kill();
      for (const { child } of shared) await child.kill();
    },
    consoleTail: (lines) => consoleLog.tail(lines),
    cleanUp: async (isOfUse) => {
      consoleLog.close();
      await spec.cleanUp(isOfUse);
    },
  });
}
