import { expect, test } from '@jest/globals';

import { HostCheck } from '../../../src/page/access.js';

const hosts = new HostCheck(['127.0.0.1', 'Builder.example.org']);

test.each([
  '127.0.0.1:9619',
  '192.0.2.7',
  '[::1]:9619',
  '[::1]',
  'localhost',
  'LOCALHOST:9619',
  'localhost.',
  'builder.example.org:9619',
  'builder',
  'builder.local:80',
])('accepts the host %s', (host) => {
  expect(hosts.accepts(host)).toBe(true);
});

test.each([
  undefined,
  '',
  'evil.example',
  'evil.example:9619',
  'localhost.evil.example',
  '127.0.0.1.evil.example',
  'builder.example.org.evil.example',
  '[evil]',
  'localhost@evil.example',
  'localhost,evil.example',
  'example.org',
])('rejects the host %s', (host) => {
  expect(hosts.accepts(host)).toBe(false);
});
