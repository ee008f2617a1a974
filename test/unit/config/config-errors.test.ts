import { describe, expect, it, test } from '@jest/globals';

import type { ConfigError } from '../../../src/config/errors.js';
import { parseConfig } from '../../../src/config/load.js';

const host = { env: {}, uid: 0, home: '/root' };

function errorOf(text: string): ConfigError {
  try {
    parseConfig(text, 'drover.yaml', host);
  } catch (error) {
    return error as ConfigError;
  }
  throw new Error('the configuration was accepted');
}

const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEaKvjLndRKpfZtYZ7Zb+nUULxaRE54cdxfBspGKKkrN me@example';
const topKeys =
  'stateDir, driver, systems, features, pool, guest, doors, metrics, audit, signing, control, history, log';
const poolKeys =
  'maxGuests, warmGuests, jobsPerGuest, isolation, idleTimeout, bootTimeout, drainTimeout, maxBuilds, maxAge';
const keyTypes = 'ssh-ed25519, ssh-rsa, ecdsa-sha2-nistp256, ecdsa-sha2-nistp384, ecdsa-sha2-nistp521';
const long = `/${'é'.repeat(60)}`;

/** Contents of the file; the error without the file's name. */
const table: Record<string, [string, string][]> = {
  'unknown keys': [
    ['drivr: auto', '1:1: drivr: unknown key; did you mean driver?'],
    ['pool:\n  maxGuest: 1', '2:3: pool.maxGuest: unknown key; did you mean maxGuests?'],
    ['pool: { max-guests: 1 }', '1:9: pool.max-guests: unknown key; did you mean maxGuests?'],
    ['doors: { ssh: { lisen: x } }', '1:17: doors.ssh.lisen: unknown key; did you mean listen?'],
    ['metrics: { lsten: x }', '1:12: metrics.lsten: unknown key; did you mean listen?'],
    ['idleTimeout: 5m', '1:1: idleTimeout: unknown key; did you mean pool.idleTimeout?'],
    ['MaxGuests: 3', '1:1: MaxGuests: unknown key; did you mean pool.maxGuests?'],
    ['nix_conf: {}', '1:1: nix_conf: unknown key; did you mean guest.nixConf?'],
    ['loglevel: debug', '1:1: loglevel: unknown key; did you mean log.level?'],
    ['authorizedKeys: []', '1:1: authorizedKeys: unknown key; did you mean doors.ssh.authorizedKeys?'],
    ['doors: { listen: x }', '1:10: doors.listen: unknown key; did you mean doors.ssh.listen?'],
    ['doors: { path: /x }', '1:10: doors.path: unknown key; did you mean doors.socket.path?'],
    ['pool: { scratch_size: 1GiB }', '1:9: pool.scratch_size: unknown key; did you mean guest.scratchSize?'],
    ['colour: red', `1:1: colour: unknown key; valid keys here: ${topKeys}`],
    ['__proto__: {}', `1:1: __proto__: unknown key; valid keys here: ${topKeys}`],
    ['log: { "a\\nb\\e[1m": 1 }', '1:8: log."a\\nb\\u001b[1m": unknown key; valid keys here: level, file'],
  ],
  'wrong types': [
    ['- driver', `1:1: expected a map (keys: ${topKeys}), got a list`],
    ['pool: [1]', `1:7: pool: expected a map (keys: ${poolKeys}), got a list`],
    [
      'pool:\n',
      `1:6: pool: expected a map (keys: ${poolKeys}), got nothing (null); leave out the key for its defaults`,
    ],
    ['pool: { maxGuests: "2" }', '1:20: pool.maxGuests: expected a whole number from 1 to 1024, got "2"'],
    [
      'pool: { maxGuests: ~ }',
      '1:20: pool.maxGuests: expected a whole number from 1 to 1024, got nothing (null)',
    ],
    ['systems: x86_64-linux', '1:10: systems: expected a list of Nix systems, got "x86_64-linux"'],
    ['systems: []', '1:10: systems: expected one or more Nix systems, got an empty list'],
    ['systems: [linux]', '1:11: systems[0]: expected a Nix system such as x86_64-linux, got "linux"'],
    ['features: [a, 1]', '1:15: features[1]: expected the name of a system feature, got 1'],
    ...['a b', 'a,b', 'a#b', 'a;b', '-'].map((odd): [string, string] => [
      `features: ["${odd}"]`,
      `1:12: features[0]: expected the name of a system feature, got "${odd}"`,
    ]),
    ['metrics: 9619', '1:10: metrics: expected a map (keys: listen, page), got 9619'],
    ['stateDir: ~/drover', '1:11: stateDir: expected an absolute path, got "~/drover"'],
    [
      'guest: { image: release }',
      `1:17: guest.image: expected the absolute path of an image's manifest.json (release and build are words of the Nix modules), got "release"`,
    ],
    ['guest: { memory: 1MiB }', '1:18: guest.memory: expected a size from 256MiB to 1024TiB, got "1MiB"'],
    ['guest: { nix: bin }', '1:15: guest.nix: expected an absolute path, got "bin"'],
  ],
  'numbers and units': [
    ['pool: { maxGuests: 0 }', '1:20: pool.maxGuests: expected a whole number from 1 to 1024, got 0'],
    ['guest: { cores: -1 }', '1:17: guest.cores: expected a whole number from 0 to 1024, got -1'],
    ['guest: { cores: 1.5 }', '1:17: guest.cores: expected a whole number from 0 to 1024, got 1.5'],
    ['guest: { cores: .inf }', '1:17: guest.cores: expected a whole number from 0 to 1024, got Infinity'],
    [
      'pool: { maxBuilds: 12345678901234567890 }',
      '1:20: pool.maxBuilds: expected a whole number from 1 to 1000000, got 12345678901234567000',
    ],
    ['pool: { warmGuests: 3 }', '1:21: pool.warmGuests: expected at most pool.maxGuests (2), got 3'],
    [
      'pool: { idleTimeout: 300 }',
      '1:22: pool.idleTimeout: expected a duration with its unit, such as 60s or 5m, got 300',
    ],
    ['pool: { idleTimeout: -5m }', '1:22: pool.idleTimeout: a duration cannot be negative, got "-5m"'],
    ['pool: { bootTimeout: 0s }', '1:22: pool.bootTimeout: expected a duration from 1s to 1d, got "0s"'],
    ['pool: { maxAge: 30d }', '1:17: pool.maxAge: expected a duration from 1s to 24d, got "30d"'],
    ['pool: { maxAge: 1w }', '1:17: pool.maxAge: unknown unit "w" in "1w" (units: d, h, m, s, ms)'],
    [
      'guest: { scratchSize: 20Gib }',
      '1:23: guest.scratchSize: unknown unit "Gib" in "20Gib" (units: TiB, TB, GiB, GB, MiB, MB, KiB, kB, B); did you mean GiB?',
    ],
    [
      'guest: { scratchSize: 1kB }',
      '1:23: guest.scratchSize: expected a size from 1MiB to 1024TiB, got "1kB"',
    ],
  ],
  words: [
    [
      'driver: namspace',
      '1:9: driver: expected one of auto, vz, namespace, qemu, got "namspace"; did you mean namespace?',
    ],
    [
      'log: { level: warning }',
      '1:15: log.level: expected one of fatal, error, warn, info, debug, trace, got "warning"; did you mean warn?',
    ],
    [
      'guest: { nixConf: { post-build-hook: /etc/hook } }',
      '1:38: guest.nixConf.post-build-hook: guests do not have /etc/hook: name a program in /nix/store, which they share',
    ],
    ['guest: { network: no }', '1:19: guest.network: expected one of outbound, host, none, got "no"'],
  ],
  'paths of sockets': [
    [
      `stateDir: ${long}`,
      `1:11: stateDir: the socket's path ${long}/doors/nix.sock has 136 bytes, more than the 103 of a Unix socket; choose a shorter stateDir`,
    ],
    [
      `doors: { socket: { path: ${long} } }`,
      `1:26: doors.socket.path: the socket's path ${long} has 121 bytes, more than the 103 of a Unix socket; choose a shorter one`,
    ],
    ...[' ', ',', ';', "'", '#', '&', '$', '(', '|', '*', '?'].map((odd): [string, string] => [
      `stateDir: "/var/a${odd}b"`,
      `1:11: stateDir: expected a path of letters, digits and . _ - + @ = : ~ %, which needs no quoting anywhere, got "/var/a${odd}b"`,
    ]),
    [
      'doors: { socket: { path: "/a b/nix.sock" } }',
      '1:26: doors.socket.path: expected a path of letters, digits and . _ - + @ = : ~ %, which needs no quoting anywhere, got "/a b/nix.sock"',
    ],
    [
      'doors: { socket: { path: nix.sock } }',
      '1:26: doors.socket.path: expected an absolute path, got "nix.sock"',
    ],
  ],
  addresses: [
    ...(
      [
        ['9619', 'expected host:port, such as 127.0.0.1:9619 or "[::1]:9619" (in quotes), got 9619'],
        ['":9619"', '"" in ":9619" is neither a host name nor an address'],
        [
          'localhost',
          'expected host:port, such as 127.0.0.1:9619 or "[::1]:9619" (in quotes), got "localhost"',
        ],
        ['127.0.0.1:65536', 'expected a port from 0 to 65535, got "65536" in "127.0.0.1:65536"'],
        ['127.0.0.1:-1', 'expected a port from 0 to 65535, got "-1" in "127.0.0.1:-1"'],
        ['256.0.0.1:80', '"256.0.0.1" in "256.0.0.1:80" is neither a host name nor an address'],
        ['"[::g]:80"', '"::g" in "[::g]:80" is neither a host name nor an address'],
        ['"::1:80"', 'an IPv6 address takes brackets and a port, such as "[::1]:9619"; got "::1:80"'],
      ] as const
    ).map(([text, reason]): [string, string] => [
      `metrics: { listen: ${text} }`,
      `1:20: metrics.listen: ${reason}`,
    ]),
    [
      'metrics:\n  listen: [::1]:80',
      '2:16: YAML syntax: Unexpected scalar at node end; an address with brackets needs quotes',
    ],
  ],
  'authorized keys': [
    ...(
      [
        ['hello', `expected an OpenSSH public key line that starts with one of: ${keyTypes}`],
        ['ssh-dss AAAA', `expected an OpenSSH public key line that starts with one of: ${keyTypes}`],
        ['ssh-ed25519', 'the part after ssh-ed25519 is not base64'],
        ['ssh-ed25519 AAA!', 'the part after ssh-ed25519 is not base64'],
        [key.slice(0, 60), 'the ssh-ed25519 key is truncated or damaged'],
        [key.replace('ssh-ed25519', 'ssh-rsa'), 'the ssh-rsa key is truncated or damaged'],
        [
          `restrict ${key}`,
          'options before the key type are not supported: the line must start with the key type',
        ],
        ['-----BEGIN OPENSSH PRIVATE KEY-----', 'this is a private key; use the public one (the .pub file)'],
        [`"${key}\\n${key}"`, 'expected one OpenSSH public key on one line, got several lines'],
        ['7', 'expected an OpenSSH public key line, got 7'],
      ] as const
    ).map(([line, reason]): [string, string] => [
      `doors:\n  ssh:\n    authorizedKeys:\n      - ${key}\n      - ${line}`,
      `5:9: doors.ssh.authorizedKeys[1]: ${reason}`,
    ]),
  ],
  'settings of Nix': [
    ...(
      [
        [
          'Max-Jobs: 1',
          'Max-Jobs: this is not the name of a Nix setting (lowercase letters, digits and -)',
          15,
        ],
        [
          '__proto__: 1',
          '__proto__: this is not the name of a Nix setting (lowercase letters, digits and -)',
          16,
        ],
        [
          'include: /x',
          'include: this is not the name of a Nix setting (lowercase letters, digits and -)',
          14,
        ],
        ['a: "b\\nc"', 'a: a setting must be one line without control characters', 8],
        ['a: "b # c"', 'a: nix.conf has no way to write a #, which starts a comment there: "b # c"', 8],
        ['a: ["b c"]', 'a: expected a list of words without spaces, got one with "b c"', 8],
        ['a: {}', 'a: expected text, a number, true, false or a list of words, got a map', 8],
        ['a: ', 'a: expected text, a number, true, false or a list of words, got nothing (null)', 8],
        ['a: 1e400', 'a: the number Infinity cannot be represented exactly; put it in quotes', 8],
      ] as const
    ).map(([text, reason, column]): [string, string] => [
      `guest:\n  nixConf:\n    ${text}`,
      `3:${column}: guest.nixConf.${reason}`,
    ]),
    [
      'guest: { nixConf: { min-free: 1 } }',
      '1:31: guest.nixConf.min-free: guests do not collect garbage, because that would delete inputs of running builds; see guest.scratchSize',
    ],
    ['guest: { nixConf: [a] }', '1:19: guest.nixConf: expected a map of Nix settings, got a list'],
  ],
  'the text itself': [
    ['driver: auto\ndriver: auto', '2:1: driver: this key is given twice; the first is on line 1'],
    [
      'pool:\n  maxAge: 1h\n  maxAge: 2h',
      '3:3: pool.maxAge: this key is given twice; the first is on line 2',
    ],
    [
      'pool: { maxAge: 1h',
      '1:19: YAML syntax: Flow map in block collection must be sufficiently indented and end with a }',
    ],
    ['pool:\n\tmaxAge: 1h', '2:1: YAML syntax: Tabs are not allowed as indentation'],
    ['? [a]\n: b', '1:3: YAML syntax: a key must be plain text'],
    ['log: !level {}', '1:6: YAML syntax: Unresolved tag: !level'],
    [
      'log: {}\n---\nlog: {}',
      '2:1: YAML syntax: a second document starts here; a configuration is a single document',
    ],
    ['log: *gone', '1:6: the alias *gone has no anchor: there is no &gone before it'],
    [
      `a: &a [x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c]`,
      '4:17: aliases expand to more than 50 values',
    ],
    ['['.repeat(200_000), '1:34: nested more than 32 levels deep'],
    ['- '.repeat(100_000), '1:67: nested more than 32 levels deep'],
    ['<<: { driver: auto }', `1:1: "<<": unknown key; valid keys here: ${topKeys}`],
  ],
};

describe.each(Object.entries(table))('%s', (_, cases) => {
  test.each(cases.map(([text, message]) => ({ name: text.slice(0, 50), text, message })))(
    '$name',
    ({ text, message }) => {
      const error = errorOf(text);
      expect(error.message).toBe(`drover.yaml:${message}`);
      expect(error.code).toBe('CONFIG_INVALID');
      expect(error.problems).toHaveLength(1);
    },
  );
});

describe('several errors', () => {
  it('are reported together, in the order of the file, including duplicates and rules between keys', () => {
    const error = errorOf(`
stateDir: ${long}
drivr: auto
pool:
  warmGuests: 5
  maxBuilds: 1.5
  idleTimeout: 5
  idleTimeout: 5 minutes
log: { level: infos }
`);
    expect(error.message.split('\n')).toEqual([
      expect.stringMatching(/^drover.yaml:2:11: stateDir: the socket's path/),
      'drover.yaml:3:1: drivr: unknown key; did you mean driver?',
      'drover.yaml:5:15: pool.warmGuests: expected at most pool.maxGuests (2), got 5',
      'drover.yaml:6:14: pool.maxBuilds: expected a whole number from 1 to 1000000, got 1.5',
      'drover.yaml:8:3: pool.idleTimeout: this key is given twice; the first is on line 7',
      'drover.yaml:8:16: pool.idleTimeout: unknown unit "minutes" in "5 minutes" (units: d, h, m, s, ms)',
      'drover.yaml:9:15: log.level: expected one of fatal, error, warn, info, debug, trace, got "infos"; did you mean info?',
    ]);
    expect(error.context).toEqual({ file: 'drover.yaml', problems: 7 });
  });

  it('are not derived from a value that is itself invalid', () => {
    const { message } = errorOf('pool: { maxGuests: -1, warmGuests: 2 }');
    expect(message).toBe('drover.yaml:1:20: pool.maxGuests: expected a whole number from 1 to 1024, got -1');
  });

  it('are counted if there are too many to list', () => {
    const lines = errorOf(Array.from({ length: 60 }, (_, i) => `zz${i}: 1`).join('\n')).message.split('\n');
    expect(lines).toHaveLength(51);
    expect(lines.at(-1)).toBe('and 10 more problems');
  });

  it('point at the target of an alias', () => {
    const { message } = errorOf('pool: &p { maxGuests: 0 }\nguest: *p');
    expect(message.split('\n')).toEqual([
      'drover.yaml:1:12: guest.maxGuests: unknown key; did you mean pool.maxGuests?',
      'drover.yaml:1:23: pool.maxGuests: expected a whole number from 1 to 1024, got 0',
    ]);
  });
});

it('never repeats what may be a private key', () => {
  const { message } = errorOf('doors: { ssh: { authorizedKeys: ["b3BlbnNzaC1rZXktdjEA"] } }');
  expect(message).not.toContain('b3BlbnNzaC1rZXktdjEA');
});
