import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { MAIN, startDrover, type Drover } from '../support/drover.js';
import { guestInit, guestProcess, guestProcesses } from '../support/guests.js';
import { describeE2e } from '../support/requirements.js';
import { Session } from '../support/session.js';
import { waitUntil } from '../support/wait.js';

describeE2e('a shell in a guest', [], () => {
  let drover: Drover;
  beforeAll(async () => {
    drover = await startDrover({ config: { pool: { maxGuests: 3 } } });
  });
  afterAll(async () => {
    await drover[Symbol.asyncDispose]();
  });

  function words(...args: string[]): string[] {
    return [MAIN, '--config', drover.configFile, ...args];
  }

  /** Boots a guest. @returns its id */
  async function boot(): Promise<string> {
    await room();
    const { stdout } = await drover.cli('boot', '--json');
    return (JSON.parse(stdout) as { guest: string }).guest;
  }

  /** Guests of earlier tests may still be ending. */
  async function room(): Promise<void> {
    await waitUntil('room for a guest', async () => (await drover.status()).guests.length < 3);
  }

  async function sh(script: string, ...args: string[]) {
    const { exitCode, stdout, stderr } = await execa(process.execPath, words('shell', ...args), {
      input: script,
      reject: false,
    });
    return { exitCode, stdout, stderr };
  }

  test('runs commands from a pipe as root in the guest, with its exit status and both outputs', async () => {
    const guest = await boot();
    expect(await sh('id -u; hostname; echo bad >&2; exit 7', guest)).toEqual({
      ...{ exitCode: 7, stdout: `0\n${guest}`, stderr: 'bad' },
    });
    await drover.events.waitFor(
      'guest-retired',
      (event) => event.guest === guest && event.reason === 'shell',
    );
  });

  test('has the rights of a guest and no more', async () => {
    // Without a guest's name: a new one is booted.
    await room();
    const script = 'cat /proc/self/uid_map; grep Seccomp: /proc/self/status; ls -d /home /var 2>&1; exit 0';
    const { stdout } = await sh(script);
    const [map = '', seccomp] = stdout.split('\n');
    expect(Number(map.trim().split(/\s+/)[1])).toBeGreaterThanOrEqual(0x70000000);
    expect(seccomp).toMatch(/Seccomp:\s+2/);
    expect(stdout).toContain('No such file');
  });

  test('is a terminal that follows the size of this one, and passes Ctrl-C', async () => {
    const guest = await boot();
    const command = `stty rows 33 cols 77; tty; exec ${[process.execPath, ...words('shell', guest)].join(' ')}`;
    const session = new Session('script', ['-qec', command, '/dev/null']);
    const [, tty = ''] = await session.waitFor(/(\/dev\/pts\/\d+)/);
    await session.waitFor(/root@g\d+/);
    session.type('stty size; echo "$TERM"\r');
    await session.waitFor(/\n33 77\r/);
    await execa('stty', ['-F', tty, 'rows', '20', 'cols', '50']);
    session.type('until stty size | grep "20 50"; do :; done\r');
    await session.waitFor(/\n20 50\r/);
    session.type('sleep 86399 || echo "sleep ended: $?"\r');
    await guestProcess(drover.stateDir, guest, 'sleep 86399');
    session.type('\u0003');
    session.type('echo "still $((40 + 2))"; exit 9\r');
    await session.waitFor(/still 42/);
    expect(await session.exitCode()).toBe(9);
  });

  test('shares its guest with another, and holds it until both are closed', async () => {
    const guest = await boot();
    const first = new Session(process.execPath, words('shell', guest));
    const second = new Session(process.execPath, words('shell', guest));
    first.type('echo one > /tmp/note; echo written\n');
    await first.waitFor(/written/);
    second.type('cat /tmp/note\n');
    await second.waitFor(/one/);
    expect((await drover.status()).guests.find(({ id }) => id === guest)).toMatchObject({ shells: 2 });
    first.child.stdin?.end();
    expect(await first.exitCode()).toBe(0);
    await drover.events.waitFor('guest-retired', (event) => event.guest === guest);
    second.type('echo still here; exit 3\n');
    await second.waitFor(/still here/);
    expect(await second.exitCode()).toBe(3);
    await drover.events.waitFor('guest-state', (event) => event.guest === guest && event.to === 'stopped');
  });

  test('ends with the reason when its guest dies, and when the client does, so does the program', async () => {
    const guest = await boot();
    const doomed = new Session(process.execPath, words('shell', guest));
    const left = new Session(process.execPath, words('shell', guest));
    // The guest ends with its last shell: this one must be in it before the other goes.
    doomed.type('echo here\n');
    await doomed.waitFor(/here/);
    left.type('sleep 86398\n');
    const { pid } = await guestProcess(drover.stateDir, guest, 'sleep 86398');
    left.child.kill('SIGKILL');
    const init = await guestInit(drover.stateDir, guest);
    await waitUntil('the end of the sleep', async () =>
      (await guestProcesses(init)).every((process) => process.pid !== pid),
    );
    process.kill(init, 'SIGKILL');
    expect(await doomed.exitCode()).toBe(69);
    expect(doomed.output).toContain(`drover: The guest ${guest} was lost: it was killed by SIGKILL`);
  });

  test('of a guest that is not there names those that are', async () => {
    const guest = await boot();
    expect(await sh('', 'g999')).toEqual({
      ...{ exitCode: 1, stdout: '' },
      stderr: expect.stringMatching(`There is no guest g999\n.*${guest}`) as unknown,
    });
  });

  test('ends when the supervisor is told to end', async () => {
    await room();
    const session = new Session(process.execPath, words('shell'));
    session.type('echo ready\n');
    await session.waitFor(/ready/);
    process.kill(drover.pid, 'SIGTERM');
    expect(await session.exitCode()).toBe(1);
    expect(session.output).toContain('drover: Drover is shutting down');
    expect(await drover.exited).toEqual({ exitCode: 0, signal: null });
  });
});
