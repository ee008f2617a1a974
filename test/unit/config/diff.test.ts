import { expect, test } from '@jest/globals';

import { diffConfig } from '../../../src/config/diff.js';
import { parseConfig } from '../../../src/config/load.js';

const host = { env: {}, uid: 0, home: '/root' };
const config = (text: string) => parseConfig(text, 'test.yaml', host);

test('finds no difference between a configuration and itself', () => {
  const running = config('pool: { maxGuests: 3 }');
  expect(diffConfig(running, config('pool: { maxGuests: 3 }'))).toEqual({ changes: [], next: running });
});

test.each([
  ['pool: { maxGuests: 7 }', 'pool.maxGuests', 'live'],
  ['pool: { idleTimeout: 1s }', 'pool.idleTimeoutMs', 'live'],
  ['pool: { jobsPerGuest: 7 }', 'pool.jobsPerGuest', 'new guests'],
  ['log: { level: debug }', 'log.level', 'live'],
  ['systems: [x86_64-linux]', 'systems', 'live'],
  ['features: [kvm]', 'features', 'new guests'],
  ['guest: { cores: 1 }', 'guest.cores', 'new guests'],
  ['guest: { nix: /opt/nix/bin }', 'guest.nix', 'new guests'],
  ['guest: { nixConf: { cores: 1 } }', 'guest.nixConf', 'new guests'],
])('takes over %s', (text, key, kind) => {
  const { changes, next } = diffConfig(config(''), config(text));
  expect(changes).toEqual([{ key, kind }]);
  expect(next).toEqual(config(text));
});

test.each([
  ['log: { file: /var/log/drover.log }', ['log.file']],
  ['metrics: null', ['metrics']],
  ["metrics: { listen: '127.0.0.1:1' }", ['metrics.listen.port']],
  ['driver: namespace', ['driver']],
  ["doors: { ssh: { listen: '10.0.0.1:22' } }", ['doors.ssh.listen.host', 'doors.ssh.listen.port']],
  // The state directory takes the socket with it.
  ['stateDir: /srv/drover', ['stateDir', 'doors.socket.path']],
])('keeps the running value of %s until a restart', (text, keys) => {
  const { changes, next } = diffConfig(config(''), config(text));
  expect(changes).toEqual(keys.map((key) => ({ key, kind: 'restart' })));
  expect(next).toEqual(config(''));
});

test('applies the other changes beside one that needs a restart', () => {
  const { next } = diffConfig(config(''), config('driver: qemu\npool: { maxGuests: 7 }'));
  expect(next).toEqual(config('pool: { maxGuests: 7 }'));
});
