import { describe, expect, test } from '@jest/globals';

import { settled } from '../../support/fake-clock.js';
import { DEFAULT_OPTIONS, eventText, Harness } from './harness.js';

describe('a lease whose signal aborts', () => {
  test('rejects with the reason while it waits', async () => {
    const harness = new Harness({ maxGuests: 1, jobsPerGuest: 1 });
    harness.lease('first');
    await harness.boot('g1');
    const controller = new AbortController();
    const second = harness.pool.lease({ domain: 'uid:0', signal: controller.signal });
    controller.abort(new Error('gone'));
    await expect(second).rejects.toThrow('gone');
    expect(harness.guests()).toEqual({ g1: 'leased 1' });
    expect(harness.pool.snapshot().waiting).toBe(0);
  });

  test('belongs to its session from the moment of the grant, until the session returns it', async () => {
    const harness = new Harness({ maxGuests: 1, jobsPerGuest: 1 });
    const first = harness.lease('first');
    await harness.boot('g1');
    const controller = new AbortController();
    const second = harness.pool.lease({ domain: 'uid:0', signal: controller.signal });
    void first.return();
    controller.abort(new Error('gone'));
    const lease = await second;
    expect(harness.guests()).toEqual({ g1: 'leased 1' });
    await lease[Symbol.asyncDispose]();
    expect(harness.guests()).toEqual({ g1: 'ready' });
  });

  test('is refused before it waits if the signal has aborted already', async () => {
    const harness = new Harness();
    const signal = AbortSignal.abort(new Error('gone'));
    await expect(harness.pool.lease({ domain: 'uid:0', signal })).rejects.toThrow('gone');
    expect(harness.events).toEqual([]);
  });
});

describe('a person in a guest', () => {
  test('keeps it from ending for being idle, and from making room', async () => {
    const harness = new Harness({ maxGuests: 1 });
    harness.pool.bootGuest();
    await harness.boot('g1');
    const hold = harness.pool.enterGuest('g1');
    await harness.clock.advance(3 * 60_000);
    expect(harness.guests()).toEqual({ g1: 'ready' });
    const session = harness.lease('a');
    await settled();
    expect(session.state).toBe('g1');
    const other = harness.lease('b', { domain: 'uid:1' });
    await session.return();
    await harness.clock.advance(60_000);
    expect({ other: other.state, guests: harness.guests() }).toEqual({
      other: 'waiting',
      guests: { g1: 'draining' },
    });
    hold[Symbol.dispose]();
    await settled();
    await harness.boot('g2');
    expect(other.state).toBe('g2');
  });

  test('leaves a guest that takes no more builds', async () => {
    const harness = new Harness();
    harness.pool.bootGuest();
    await harness.boot('g1');
    harness.pool.enterGuest('g1')[Symbol.dispose]();
    expect(harness.events).toContainEqual({ type: 'guest-retired', guest: 'g1', reason: 'shell' });
  });

  test('is one of 16 at most', async () => {
    const harness = new Harness();
    harness.pool.bootGuest();
    expect(() => harness.pool.enterGuest('g1')).toThrow('g1 still boots');
    await harness.boot('g1');
    for (let i = 0; i < 16; i++) harness.pool.enterGuest('g1');
    expect(() => harness.pool.enterGuest('g1')).toThrow('16 shells are open in the guest g1, the limit');
  });
});

describe("files that the share of the host's store lacked", () => {
  test('are told of once', async () => {
    const harness = new Harness();
    const session = harness.lease('a');
    await harness.boot('g1');
    harness.driver.guestOf('g1').shareRetries = 3;
    await session.return();
    await settled();
    const again = harness.lease('b');
    await settled();
    await again.return();
    await harness.clock.advance(10_000);
    expect(harness.events.filter(({ type }) => type === 'share-retried')).toEqual([
      { type: 'share-retried', guest: 'g1', retries: 3 },
    ]);
  });
});

describe('a failed build that is kept', () => {
  const kept = (build: string) => ({
    build,
    directory: `/build/${build}`,
    builder: '/bin/sh',
    keepMs: 1_800_000,
  });

  /** Boots a guest in which builds have failed. */
  async function harnessWith(builds: readonly string[]): Promise<Harness> {
    const harness = new Harness({ maxGuests: 1 });
    const session = harness.lease('a');
    await harness.boot('g1');
    for (const build of builds) session.lease?.keep(kept(build));
    await session.return();
    await settled();
    return harness;
  }

  test('keeps its guest until its time is over, with its directory', async () => {
    const harness = await harnessWith(['b1']);
    await harness.clock.advance(1_799_000);
    expect(harness.guests()).toEqual({ g1: 'ready' });
    await harness.clock.advance(2_000);
    expect(harness.guests()).toEqual({});
    expect(harness.pool.enterBuild('b1')).toBeUndefined();
  });

  test('stays while a person is in it, though its time is over', async () => {
    const harness = await harnessWith(['b1']);
    const entered = harness.pool.enterBuild('b1');
    await harness.clock.advance(2_000_000);
    expect({ guests: harness.guests(), ids: harness.pool.keptBuilds }).toEqual({
      guests: { g1: 'ready' },
      ids: ['b1'],
    });
    entered?.hold[Symbol.dispose]();
    await harness.clock.advance(60_000);
    expect({ guests: harness.guests(), ids: harness.pool.keptBuilds }).toEqual({ guests: {}, ids: [] });
  });

  test('makes room for a client that waits, but not for its own', async () => {
    const harness = await harnessWith(['b1']);
    const own = harness.lease('own');
    await settled();
    expect({ own: own.state, ids: harness.pool.keptBuilds }).toEqual({ own: 'g1', ids: ['b1'] });
    await own.return();
    harness.lease('other', { domain: 'uid:1' });
    await settled();
    expect(harness.pool.keptBuilds).toEqual([]);
    await harness.boot('g2');
    expect(harness.session('other').state).toBe('g2');
  });

  test('is one of 10: the oldest gives way, and its directory is removed', async () => {
    const harness = await harnessWith(Array.from({ length: 11 }, (_, index) => `b${index + 1}`));
    expect(harness.pool.keptBuilds).toHaveLength(10);
    expect(harness.pool.keptBuilds).not.toContain('b1');
    expect(harness.driver.guestOf('g1').calls).toContain('drop');
  });

  test('is lost with its guest, whose place is free again', async () => {
    const harness = await harnessWith(['b1']);
    harness.driver.guestOf('g1').die('it was killed by SIGKILL');
    await settled();
    expect(harness.pool.keptBuilds).toEqual([]);
    expect(harness.pool.enterBuild('b1')).toBeUndefined();
    const next = harness.lease('next');
    await harness.boot('g2');
    expect(next.state).toBe('g2');
  });

  test.each(['drainGuest', 'pause', 'drain'] as const)('ends with %s', async (verb) => {
    const harness = await harnessWith(['b1']);
    void harness.pool[verb]('g1');
    await settled();
    expect({ guests: harness.guests(), ids: harness.pool.keptBuilds }).toEqual({ guests: {}, ids: [] });
  });

  test.each(['drainGuest', 'pause', 'drain'] as const)('is not kept after %s', async (verb) => {
    const harness = new Harness({ maxGuests: 1 });
    const session = harness.lease('a');
    await harness.boot('g1');
    void harness.pool[verb]('g1');
    expect(session.lease?.keep(kept('b1'))).toBe(false);
    await session.return();
    await settled();
    expect({ guests: harness.guests(), ids: harness.pool.keptBuilds }).toEqual({ guests: {}, ids: [] });
  });

  test('ends with a change of image, before and after its guest is told', async () => {
    const harness = await harnessWith(['b1']);
    const session = harness.lease('a');
    await settled();
    harness.pool.configure({ ...DEFAULT_OPTIONS, maxGuests: 1 }, harness.driver.ofGeneration('new'));
    expect({ kept: session.lease?.keep(kept('b2')), ids: harness.pool.keptBuilds }).toEqual({
      kept: false,
      ids: [],
    });
    await session.return();
    await settled();
    expect(harness.guests()).toEqual({});
  });

  test('ends with its guest, whose place is free again', async () => {
    const harness = await harnessWith(['b1']);
    harness.driver.guestOf('g1').die('it was killed by SIGKILL');
    await settled();
    expect(harness.pool.keptBuilds).toEqual([]);
    expect(harness.pool.enterBuild('b1')).toBeUndefined();
    expect(harness.pool.bootGuest()).toBe('g2');
  });
});

describe('a lease', () => {
  test('is wanted by those that wait for a place, not by those whose guest boots', async () => {
    const harness = new Harness({ maxGuests: 2, jobsPerGuest: 1 });
    const session = harness.lease('a');
    await harness.boot('g1');
    harness.lease('b', { domain: 'uid:1' });
    expect(session.lease?.wanted).toBe(false);
    const own = harness.lease('c');
    expect(session.lease?.wanted).toBe(true);
    own.controller.abort(new Error('gone'));
    expect(session.lease?.wanted).toBe(false);
  });
});

describe('a guest that is asked for a sign of life', () => {
  test('does not hang while its nix-daemon answers others', async () => {
    const harness = new Harness({ maxGuests: 1 });
    const session = harness.lease('a');
    await harness.boot('g1');
    harness.driver.guestOf('g1').daemon = 'hangs';
    await harness.clock.advance(10_000);
    const second = harness.lease('b');
    await harness.clock.advance(19_999);
    expect(second.state).toBe('waiting');
    session.lease?.guest.handshakes.noteCompleted();
    await harness.clock.advance(1);
    expect([session.lease?.guest.lost.aborted, second.state]).toEqual([false, 'g1']);
  });
});

test('the phases of a boot are timed, up to the one that failed', async () => {
  const harness = new Harness();
  const finished = (): unknown[] =>
    harness.events.flatMap((event) => (event.type === 'boot-finished' ? [[event.result, event.phases]] : []));
  harness.pool.bootGuest();
  harness.pool.bootGuest();
  await harness.clock.advance(10);
  harness.driver.bootOf('g1').reach('start');
  harness.driver.bootOf('g2').reach('start');
  await harness.clock.advance(200);
  harness.driver.bootOf('g1').reach('greet');
  await harness.clock.advance(5);
  await harness.boot('g1');
  await harness.failBoot('g2', 'it was killed by SIGKILL');
  expect(finished()).toEqual([
    ['ok', { prepare: 10, start: 200, greet: 5 }],
    ['failed', { prepare: 10, start: 205 }],
  ]);
});

describe('observers', () => {
  test('may call back into the pool, and hear everything in order', async () => {
    const harness = new Harness({ maxGuests: 1, jobsPerGuest: 1 });
    let snapshots = 0;
    harness.pool.events.on((event) => {
      if (event.type === 'lease-granted' && harness.sessions.size < 3) {
        snapshots += harness.pool.snapshot().leases;
        harness.lease(`next ${harness.sessions.size}`);
      }
      if (event.type === 'boot-finished') void harness.session('first').return();
    });
    const heard: string[] = [];
    harness.pool.events.on((event) => heard.push(eventText(event)));
    const first = harness.lease('first');
    await harness.boot('g1');
    await first.return();
    await settled();
    expect(heard).toEqual(harness.events.map(eventText));
    expect(snapshots).toBe(2);
    expect(harness.session('next 1').state).toBe('g1');
    expect(harness.session('next 2').state).toBe('waiting');
  });

  test('that drain the pool while a guest boots end it once', async () => {
    const harness = new Harness();
    harness.pool.events.on((event) => {
      if (event.type === 'boot-finished') void harness.pool.drain();
    });
    harness.pool.start();
    harness.lease('a').controller.abort(new Error('gone'));
    await harness.boot('g1');
    expect(harness.driver.guestOf('g1').calls).toEqual(['stop']);
    expect(harness.guests()).toEqual({});
  });

  test('that return a lease once more while it is being returned', async () => {
    const harness = new Harness();
    harness.pool.events.on((event) => {
      if (event.type === 'lease-returned') void harness.session('a').return();
    });
    harness.lease('a');
    harness.lease('b');
    await harness.boot('g1');
    await harness.session('a').return();
    expect(harness.guests()).toEqual({ g1: 'leased 1' });
  });

  test('that throw do not disturb the pool', async () => {
    const harness = new Harness();
    harness.pool.events.on(() => {
      throw new Error('an observer is broken');
    });
    const session = harness.lease('a');
    await harness.boot('g1');
    expect(session.state).toBe('g1');
  });
});

test('a driver that calls back into the pool does not make it forget its limits', async () => {
  const harness = new Harness({ warmGuests: 2 });
  const boot = harness.driver.boot.bind(harness.driver);
  harness.driver.boot = (options) => {
    harness.pool.start();
    return boot(options);
  };
  harness.pool.start();
  await settled();
  expect(harness.guests()).toEqual({ g1: 'booting', g2: 'booting' });
});

test('holders that return their lease when the guest is lost, at once', async () => {
  const harness = new Harness();
  const [a, b] = [harness.lease('a'), harness.lease('b')];
  await harness.boot('g1');
  for (const session of [a, b]) {
    session.lease?.guest.lost.addEventListener('abort', () => {
      session.retire('lost');
      void session.return();
      harness.lease(`${session.state} again`);
    });
  }
  harness.driver.guestOf('g1').die('power cut');
  await settled();
  expect(harness.guests()).toEqual({ g2: 'booting' });
  expect(harness.pool.snapshot().leases).toBe(0);
});

test('a guest prepares to register when it boots, and again when a lease is returned', async () => {
  const harness = new Harness();
  const session = harness.lease('a');
  await harness.boot('g1');
  const guest = harness.driver.guestOf('g1');
  expect(guest.registers).toBe(1);
  await session.lease?.guest.agent.register('');
  expect(guest.registers).toBe(1);
  await session.return();
  expect(guest.registers).toBe(2);
});

test('a thousand waiters come, are served and go in reasonable time', async () => {
  const harness = new Harness({ maxGuests: 100, jobsPerGuest: 5 });
  const sessions = Array.from({ length: 1000 }, (_, index) => harness.lease(`s${index}`));
  for (const id of [...harness.driver.boots.keys()]) harness.driver.bootOf(id).succeed();
  await settled();
  expect(harness.pool.snapshot()).toMatchObject({ waiting: 500, leases: 500 });
  for (const session of sessions.slice(0, 500)) await session.return();
  await settled();
  expect(sessions.every(({ state }) => state !== 'waiting')).toBe(true);
});

describe('the operator', () => {
  test('drains one guest: it keeps its leases, gets no more, and ends', async () => {
    const harness = new Harness({ maxGuests: 1, jobsPerGuest: 2 });
    const first = harness.lease('first');
    await harness.boot('g1');
    harness.pool.drainGuest('g1');
    harness.lease('second');
    expect(harness.guests()).toEqual({ g1: 'draining 1' });
    await first.return();
    await settled();
    expect(harness.events).toContainEqual({ type: 'guest-retired', guest: 'g1', reason: 'operator' });
    expect(() => {
      harness.pool.drainGuest('g99');
    }).toThrow('There is no guest g99');
  });

  test('drains all guests: builds wait, told why, until the operator resumes', async () => {
    const harness = new Harness({ maxGuests: 2, warmGuests: 1 });
    harness.pool.start();
    await harness.boot('g1');
    harness.pool.pause();
    await settled();
    const waiting = harness.lease('waits');
    await harness.clock.advance(3_600_000);
    expect(waiting.state).toBe('waiting');
    expect(waiting.place?.().reason).toBe('all guests were drained; drover resume ends this');
    expect([...harness.driver.boots.keys()]).toEqual([]);
    harness.pool.resume();
    await harness.boot('g2');
    expect(waiting.state).toBe('g2');
  });

  test('boots a guest, unless there is no room or all were drained', async () => {
    const harness = new Harness({ maxGuests: 1 });
    expect(harness.pool.bootGuest()).toBe('g1');
    await harness.boot('g1');
    expect(harness.guests()).toEqual({ g1: 'ready' });
    expect(() => harness.pool.bootGuest()).toThrow('The pool has 1 guest of at most 1');
    harness.pool.pause();
    expect(() => harness.pool.bootGuest()).toThrow('All guests were drained');
  });
});
