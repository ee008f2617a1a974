import { describe, expect, test } from '@jest/globals';

import type { SshDoorConfig } from '../../../src/config/ssh-clients.js';
import { parseConfig } from '../../../src/config/load.js';

const ED25519 = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE9fUnqX9BhtJW3cQ3pQTMhkKtBUSkMfr5dJrR8iTAFi';
const FINGERPRINT = 'SHA256:i6Vig4U5/woqx4+i7xMd03bzjz0GRhL917z6GigBebw';
const RSA_3072 =
  'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQCg1YKGuiVIgnMjzFSXhMZhIEWzHQYSBnO5A1Jg0Fw4UKyg0tVogYEh5GFyS/6eM22kWYT0hZSJ4rC3Hi+7byvTyB5xiqH6uiOQbUH8WEAun7qCAz+JztlJLWTZ0o70O4DjWD2jWcoG+7FFbrHZofFFhge4RH4EciF91Jerk+F5PyNJplbstqD5LgWXON3CJqItfjLd7YaPATx6rzzFLaEbxpJ+aBs52U4+1yVJdrE+PORyee5Wps6TruiAf3Q342SFH84UlLf/rPhjErQ2usZiEwDAYyzzHNVunXLltVdS4yr9QDFrG7DhlBXxbFb8caXgc+vnjIP5w2jTBRM639Qq1TeP4eF0WEd8FuTBoKR8tg6wxwf3aTUhcRGM1+Av6UkrfCtGWOULFKr7WeAEyJjpn2mXlMJfJnO0h9ISSewE1EvS54G9S5yDMVLV19gdV+pskWoKZ1dNnEhHBdPqVxn44AR2I8oW+ikzmdM3Fl+l1988sHUUnLgPqlgIY9up8iE= strong';
const RSA_2048 =
  'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCdWq/Rx4bSPUSp7KhHFJ+KfakTlz5yb17rhn0ToQIQkALsNe5qVQcATSGtPA2H/lOQqyC/stRH8UD22/VK0WKxMihuZAo5Otb+L8nKvPG/Nph5kmXaq7GiydavnonBqT4PiVfn/1d+J1REaUqWoDC3rbK1ZEahS46/HbTtRl9tVN0cHuA6e5JCnjRUSUSGbqcRr5hYbv1b37/1PReJfNvy8JE8+7dL9pKt57s1PJ6uAisg1L/GYZxNPSJX6+UI4HW6AM1r2TzZnzUP1BWURCNQT3z5FcEeIRxC+qSeOQMs9f0blvekB086BoLI7ZCg2tVG0r3XUTGIjUuXlz0Tj7I3 old';
const SIGNING_KEY = `cache.example.org-1:${'A'.repeat(43)}=`;

function ssh(value: object): SshDoorConfig {
  return parseConfig(JSON.stringify({ doors: { ssh: value } }), 'drover.yaml', {
    env: {},
    uid: 0,
    home: '/root',
  }).doors.ssh;
}

describe('clients of the ssh door', () => {
  test('are untrusted and unlimited by default, named by the comment of their key', () => {
    const client = { name: 'root@laptop', trusted: false, maxBuilds: undefined, maxSessions: undefined };
    const expected = [{ key: ED25519, fingerprint: FINGERPRINT, ...client }];
    expect(ssh({ authorizedKeys: [`  ${ED25519} root@laptop `] }).clients).toStrictEqual(expected);
    expect(ssh({ clients: [{ key: `${ED25519} root@laptop` }] }).clients).toStrictEqual(expected);
  });

  test('have the name, the trust and the limits that are configured', () => {
    const limits = { name: 'ci', trusted: true, maxBuilds: 8, maxSessions: 20 };
    const { clients } = ssh({
      clients: [{ key: `${ED25519} other`, ...limits }],
      authorizedKeys: [RSA_3072],
    });
    expect(clients).toMatchObject([
      { key: ED25519, fingerprint: FINGERPRINT, ...limits },
      { name: 'strong', trusted: false },
    ]);
  });

  test('are named by their fingerprint without a comment, and never by control characters', () => {
    expect(ssh({ authorizedKeys: [ED25519] }).clients[0]?.name).toBe(FINGERPRINT);
    expect(ssh({ authorizedKeys: [`${ED25519} a\u001b[31mb`] }).clients[0]?.name).toBe('a[31mb');
  });

  test('leave out a weak key of authorizedKeys, with the reason, so that it locks out its own client only', () => {
    const { clients, ignoredKeys } = ssh({ authorizedKeys: [RSA_2048, ED25519] });
    expect(clients).toMatchObject([{ key: ED25519 }]);
    expect(ignoredKeys).toEqual([
      'old is ignored: this RSA key has 2048 bits, and the ssh door accepts 3072 or more; make another key: ssh-keygen -t ed25519',
    ]);
  });

  test.each([
    [{ clients: [{ key: RSA_2048 }] }, 'doors.ssh.clients[0].key: this RSA key has 2048 bits'],
    [{ clients: [{ key: ED25519, name: 'a\nb' }] }, 'expected a name of 1 to 64 printable characters'],
    [
      { clients: [{ key: ED25519, maxBuilds: 0 }] },
      'doors.ssh.clients[0].maxBuilds: expected a whole number from 1',
    ],
    [{ clients: [{ name: 'ci' }] }, 'doors.ssh.clients[0].key: expected an OpenSSH public key line'],
    [
      { clients: [{ key: ED25519 }], authorizedKeys: [`${ED25519} again`] },
      `doors.ssh.authorizedKeys[0]: the key ${FINGERPRINT} is listed twice`,
    ],
    [{ trustedPublicKeys: ['cache:AAAA'] }, 'doors.ssh.trustedPublicKeys[0]: expected a public key of Nix'],
  ])('reports %j', (value, message) => {
    expect(() => ssh(value)).toThrow(message);
  });

  test('may upload what a listed key of Nix has signed', () => {
    expect(ssh({ trustedPublicKeys: [SIGNING_KEY] }).trustedPublicKeys).toEqual([SIGNING_KEY]);
  });
});
