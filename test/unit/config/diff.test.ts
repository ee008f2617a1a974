import { expect, test } from '@jest/globals';

import { diffConfig } from '../../../src/config/diff.js';
import { parseConfig } from '../../../src/config/load.js';

const host = { env: {}, uid: 0, home: '/root' };
const config = (text: string) => parseConfig(text, 'test.yaml', host);

test('a configuration does not differ from itself', () => {
  expect(diffConfig(config('pool: { maxGuests: 3 }'), config('pool: { maxGuests: 3 }'))).toEqual([]);
});

test.each([
  ['pool: { maxGuests: 7 }', 'pool.maxGuests', 'live'],
  ['pool: { idleTimeout: 1s }', 'pool.idleTimeoutMs', 'live'],
  ['pool: { jobsPerGuest: 7 }', 'pool.jobsPerGuest', 'new guests'],
  ['log: { level: debug }', 'log.level', 'live'],
  ['log: { file: /var/log/drover.log }', 'log.file', 'restart'],
  ['systems: [x86_64-linux]', 'systems', 'live'],
  ['features: [kvm]', 'features', 'new guests'],
  ['guest: { cores: 1 }', 'guest.cores', 'new guests'],
  ['guest: { nix: /opt/nix/bin }', 'guest.nix', 'new guests'],
  ['guest: { nixConf: { cores: 1 } }', 'guest.nixConf', 'new guests'],
  ['metrics: null', 'metrics', 'restart'],
  ['driver: namespace', 'driver', 'restart'],
])('%s', (text, key, kind) => {
  expect(diffConfig(config(''), config(text))).toContainEqual({ key, kind });
});

test('a state directory takes the socket with it', () => {
  expect(diffConfig(config(''), config('stateDir: /srv/drover'))).toEqual([
    { key: 'stateDir', kind: 'restart' },
    { key: 'doors.socket.path', kind: 'restart' },
  ]);
});
