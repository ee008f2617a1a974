import { expect, test } from '@jest/globals';

import { startDrover, type Drover } from '../support/drover.js';
import { nixHost, succeeded, type NixHost, type NixProcess } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';

/** Builds until its client is killed. */
function startEndless(host: NixHost, name: string): NixProcess {
  return host.startBuild(host.derivation(name, 'echo "it has begun"; sleep 86399'));
}

/** The guest in which the build of a derivation with this name has begun. */
async function guestOf(drover: Drover, host: NixHost, name: string): Promise<string> {
  return await drover.guestOf(`${host.id}-${name}`);
}

async function build(drover: Drover, host: NixHost, name: string): Promise<string> {
  succeeded(await host.build(host.derivation(name, 'echo > $out')));
  return await guestOf(drover, host, name);
}

async function cancel(client: NixProcess): Promise<void> {
  client.signalGroup('SIGINT');
  await client.ended;
}

describeE2e('with pool.isolation', [], () => {
  test("`client`, clients of two domains share no guest, not even one after the other's work", async () => {
    await using drover = await startDrover({ config: { pool: { maxGuests: 4 } } });
    await using local = await nixHost({ drover });
    await using remote = await nixHost({ drover, door: 'ssh' });
    const ofLocal = [await build(drover, local, 'a')];
    const running = startEndless(remote, 'b');
    const ofRemote = [await guestOf(drover, remote, 'b')];
    ofLocal.push(await build(drover, local, 'c'));
    ofRemote.push(await build(drover, remote, 'd'));
    ofLocal.push(await build(drover, local, 'e'));
    await cancel(running);
    expect(ofLocal.filter((guest) => ofRemote.includes(guest))).toEqual([]);
    const { guests } = await drover.status();
    const domainOf = (guest: string) => guests.find(({ id }) => id === guest)?.domain?.split(':')[0];
    expect(ofLocal.map(domainOf)).toEqual(ofLocal.map(() => 'uid'));
    expect(ofRemote.map(domainOf)).toEqual(ofRemote.map(() => 'key'));
  });

  test('`client`, an idle guest makes room for another domain that waits', async () => {
    await using drover = await startDrover({ config: { pool: { maxGuests: 1 } } });
    await using local = await nixHost({ drover });
    await using remote = await nixHost({ drover, door: 'ssh' });
    const first = await build(drover, local, 'first');
    expect(await build(drover, remote, 'second')).not.toBe(first);
    expect(drover.events.of('guest-retired')).toMatchObject([{ guest: first, reason: 'turn' }]);
  });

  test('`client`, a domain that always has builds leaves room for another in its turn', async () => {
    await using drover = await startDrover({ config: { pool: { maxGuests: 1, jobsPerGuest: 2 } } });
    await using local = await nixHost({ drover });
    await using remote = await nixHost({ drover, door: 'ssh' });
    const running = [startEndless(local, 'one'), startEndless(local, 'two')];
    const first = await guestOf(drover, local, 'one');
    expect(await guestOf(drover, local, 'two')).toBe(first);
    const waiting = [startEndless(local, 'three'), startEndless(local, 'four')];
    await drover.events.waitFor('lease-waiting', () => drover.events.of('lease-waiting').length >= 4);
    const second = remote.startBuild(remote.derivation('second', 'echo > $out'));
    // The guest in use gets no more work once another domain has waited long enough, and ends with its last build.
    await drover.events.waitFor('guest-retired', ({ guest, reason }) => guest === first && reason === 'turn');
    for (const client of running) await cancel(client);
    succeeded(await second.ended);
    const ofSecond = await guestOf(drover, remote, 'second');
    const ofThird = await guestOf(drover, local, 'three');
    expect(new Set([first, ofSecond, ofThird]).size).toBe(3);
    for (const client of waiting) await cancel(client);
  });

  test('`build`, each build has a guest of its own', async () => {
    await using drover = await startDrover({ config: { pool: { maxGuests: 2, isolation: 'build' } } });
    await using host = await nixHost({ drover });
    const running = startEndless(host, 'a');
    const guests = [await guestOf(drover, host, 'a')];
    for (const name of ['b', 'c']) guests.push(await build(drover, host, name));
    await cancel(running);
    expect(new Set(guests).size).toBe(3);
    expect((await drover.status()).guests.every(({ builds }) => builds <= 1)).toBe(true);
  });

  test('`shared`, a guest serves every client', async () => {
    const pool = { maxGuests: 1, isolation: 'shared' };
    await using drover = await startDrover({ trusted: true, config: { pool } });
    await using local = await nixHost({ drover });
    await using remote = await nixHost({ drover, door: 'ssh' });
    const guest = await build(drover, local, 'a');
    expect(await build(drover, remote, 'b')).toBe(guest);
  });
});
