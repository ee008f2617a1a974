import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';

import { beforeEach, describe, expect, test } from '@jest/globals';

import { ConsoleMachine } from '../../../src/drivers/vm/console-machine.js';
import { deferred, type Deferred } from '../../support/deferred.js';
import { FakeClock, settled } from '../../support/fake-clock.js';

describe('a machine with a console', () => {
  let clock: FakeClock;
  let source: PassThrough;
  let exited: Deferred<string>;
  let fault: Deferred<string>;
  let tail: string;
  let kills: number;
  let cleanedUp: boolean[];
  let machine: ConsoleMachine;

  function start(restartsAfterPanic: boolean): void {
    source = new PassThrough();
    exited = deferred();
    fault = deferred();
    tail = '';
    kills = 0;
    cleanedUp = [];
    machine = new ConsoleMachine({
      process: { name: 'QEMU', exited: exited.promise },
      endedWell: () => true,
      restartsAfterPanic,
      faults: [fault.promise],
      source,
      input: new PassThrough(),
      killAll: () => {
        kills += 1;
        exited.resolve('it was killed by SIGKILL');
        return Promise.resolve();
      },
      consoleTail: () => tail,
      cleanUp: (isOfUse) => {
        cleanedUp.push(isOfUse);
        return Promise.resolve();
      },
      clock,
    });
  }
  beforeEach(() => {
    clock = new FakeClock();
    start(true);
  });

  test('that is powered off has ended well, and its console is of no more use', async () => {
    source.end('bye\r\n');
    tail = 'drover: nix-daemon has ended: success (killed TERM)\r\n[    9.1] reboot: Power down\r\n';
    exited.resolve('it ended with exit status 0');
    expect(await text(machine.output)).toBe('bye\r\n');
    expect(await machine.ended).toMatchObject({ poweredOff: true });
    expect(cleanedUp).toEqual([false]);
    expect(clock.pendingTimers).toBe(0);
  });

  test('that powers itself off because a part has failed has not', async () => {
    tail = 'drover: nix-daemon has ended: exit-code (exited 1)\r\n';
    exited.resolve('it ended with exit status 0');
    expect(await machine.ended).toEqual({
      poweredOff: false,
      how: 'drover: nix-daemon has ended: exit-code (exited 1)',
    });
    expect(cleanedUp).toEqual([true]);
  });

  test('whose kernel panics is ended a moment later, split as its last line may be', async () => {
    for (const piece of ['up\r\n[   12.34', '5678] Kernel pan', 'ic - not syncing: Fatal exception\r\n'])
      source.write(piece);
    await settled();
    expect(kills).toBe(0);
    await clock.advance(2_000);
    expect(await machine.ended).toEqual({ poweredOff: false, how: 'its kernel panicked' });
  });

  test('whose process ends after a panic is not ended for what its console shows', async () => {
    start(false);
    const shown = '[   12.345678] Kernel panic - not syncing: of another machine\r\n';
    source.write(shown);
    await settled();
    await clock.advance(10_000);
    expect(kills).toBe(0);
    tail = `${shown}[   99.1] reboot: Power down\r\n`;
    exited.resolve('it ended with exit status 0');
    expect(await machine.ended).toMatchObject({ poweredOff: true });
    start(false);
    tail = shown;
    exited.resolve('it ended with exit status 0');
    expect(await machine.ended).toEqual({ poweredOff: false, how: 'its kernel panicked' });
  });

  test('that shows a panic in the middle of a line continues', async () => {
    source.write('$ echo "Kernel panic - not syncing"\r\n');
    await settled();
    await clock.advance(10_000);
    expect(kills).toBe(0);
  });

  test('whose share ends is ended unless its own end explains that', async () => {
    fault.resolve('its virtiofsd: it was killed by SIGKILL');
    await settled();
    await clock.advance(1_000);
    expect(await machine.ended).toEqual({
      poweredOff: false,
      how: 'its virtiofsd: it was killed by SIGKILL',
    });
  });

  test('is killed although its console is not read', async () => {
    source.write('x'.repeat(1024 * 1024));
    await machine.kill();
    expect(cleanedUp).toEqual([false]);
    source.end();
    await settled();
    expect(source.readableEnded).toBe(true);
  });
});
