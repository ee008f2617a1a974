import { fileTail } from '../../lib/console-log.js';
import type { Machine } from '../../guest/driver.js';
import { ConsoleMachine } from '../vm/console-machine.js';
import type { HelperConfiguration } from './helper-protocol.js';
import { startHelper } from './helper.js';

/** The end of a console in which reasons are looked for, in bytes. */
const TAIL_BYTES = 16 * 1024;

export interface ConsoleMachineSpec {
  readonly program: string;
  readonly setpriv: string | undefined;
  readonly configuration: HelperConfiguration;
  /** Removes what the machine had on disk. @param isOfUse whether its console may explain its end */
  readonly cleanUp: (isOfUse: boolean) => Promise<void>;
}

/** Starts a vz-helper whose guest's console is the user's. @throws DroverError; no process is left then */
export async function startConsoleMachine(
  { program, setpriv, configuration, cleanUp }: ConsoleMachineSpec,
  signal: AbortSignal,
): Promise<Machine> {
  const helper = await startHelper({ program, setpriv, signal, terminal: true });
  const { terminal } = helper;
  let poweredOff = false;
  helper.events.on(({ event }) => {
    if (event === 'stopped') poweredOff = true;
  });
  try {
    if (terminal === undefined) throw new TypeError('vz-helper has no descriptor for the console');
    await helper.configure(configuration);
    await helper.start();
    return new ConsoleMachine({
      process: { name: 'vz-helper', exited: helper.exited },
      endedWell: () => poweredOff,
      // Apple's framework resets it in place.
      restartsAfterPanic: true,
      faults: [],
      source: terminal,
      input: terminal,
      killAll: () => helper.kill(),
      consoleTail: (lines) => fileTail(configuration.console.path, { lines, maxBytes: TAIL_BYTES }),
      cleanUp,
    });
  } catch (error) {
    await helper.kill();
    throw error;
  }
}
