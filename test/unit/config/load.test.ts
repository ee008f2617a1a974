import { execFileSync } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it, test } from '@jest/globals';

import { defaultConfig, loadConfig, parseConfig } from '../../../src/config/load.js';
import fc from '../../support/property.js';

const root = { env: {}, uid: 0, home: '/root' };
const keys = [
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEaKvjLndRKpfZtYZ7Zb+nUULxaRE54cdxfBspGKKkrN me@example',
  'ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBLTySMvCMgcHvXrajdlgaREjw2vds3+1A8Q+RC2yEB2VNyD/ueL5TUIOycLaLOqBK2cknETjoAyrqDoCS1r3KVA= me@example',
];

describe('defaults', () => {
  const defaults = {
    stateDir: '/var/lib/drover',
    driver: 'auto',
    systems: undefined,
    features: ['benchmark', 'big-parallel'],
    pool: {
      maxGuests: 2,
      warmGuests: 0,
      jobsPerGuest: 4,
      isolation: 'client',
      idleTimeoutMs: 300_000,
      bootTimeoutMs: 60_000,
      drainTimeoutMs: 60_000,
      maxBuilds: 200,
      maxAgeMs: 86_400_000,
    },
    guest: {
      cores: 0,
      memoryBytes: undefined,
      scratchSizeBytes: undefined,
      store: 'exact',
      scratch: 'auto',
      network: 'outbound',
      userNamespace: 'auto',
      nixConf: {},
      nix: undefined,
      image: undefined,
      accelerator: 'auto',
      acceptVulnerableNix: false,
      keepFailedMs: 0,
      rosetta: { enable: true, cache: false },
      x86_64: ['rosetta', 'qemu-user'],
      nestedVirtualization: false,
    },
    doors: {
      socket: { path: '/var/lib/drover/doors/nix.sock', restartGraceMs: 20_000 },
      ssh: {
        listen: { host: '127.0.0.1', port: 31122 },
        clients: [],
        ignoredKeys: [],
        trustedPublicKeys: [],
      },
    },
    metrics: { listen: { host: '127.0.0.1', port: 9619 }, page: true },
    audit: { file: null },
    signing: { secretKeyFile: null },
    control: { group: null, path: '/var/run/drover-control/look.sock' },
    history: { keepMs: 30 * 86_400_000, maxBuilds: 20_000, maxBytes: 2 * 1024 ** 3, logs: 'all' },
    log: { level: 'info', file: undefined },
  };

  it('are complete without a file', async () => {
    expect(defaultConfig(root)).toStrictEqual(defaults);
    expect(await loadConfig(root)).toStrictEqual(defaults);
  });

  test.each(['', '# nothing\n', '---\n', '~', '{}', 'pool: {}', '\uFEFF'])(
    'are those of the file %j too',
    (text) => {
      expect(parseConfig(text, 'drover.yaml', root)).toStrictEqual(defaults);
    },
  );

  test.each([
    [{ XDG_STATE_HOME: '/state' }, '/state/drover'],
    [{ XDG_STATE_HOME: 'relative' }, '/home/me/.local/state/drover'],
    [{ XDG_STATE_HOME: '' }, '/home/me/.local/state/drover'],
    [{}, '/home/me/.local/state/drover'],
  ])('keep the state of a user with %j in %s', (env, stateDir) => {
    const config = defaultConfig({ env, uid: 1000, home: '/home/me' });
    expect(config.stateDir).toBe(stateDir);
    expect(config.doors.socket.path).toBe(`${stateDir}/doors/nix.sock`);
  });

  it('are rejected if the home directory makes the path of the socket too long', () => {
    const home = `/home/${'x'.repeat(90)}`;
    expect(() => defaultConfig({ env: {}, uid: 1000, home })).toThrow(
      `default configuration: stateDir: the socket's path ${home}/.local/state/drover/doors/nix.sock has 131 bytes, more than the 103 of a Unix socket; choose a shorter stateDir`,
    );
  });

  it('are rejected without a home directory', () => {
    expect(() => defaultConfig({ env: {}, uid: 1000, home: '' })).toThrow(
      'default configuration: stateDir: expected an absolute path, got ".local/state/drover"',
    );
  });
});

describe('a whole file', () => {
  it('is read in its units', () => {
    const text = `
stateDir: /srv//drover/
driver: namespace
systems: [x86_64-linux, i686-linux]
features: []
pool: { maxGuests: 8, warmGuests: 8, jobsPerGuest: 1, isolation: shared, idleTimeout: 0s, bootTimeout: 1h30m, drainTimeout: 500ms, maxBuilds: 1, maxAge: 24d }
guest:
  cores: 3
  memory: 4GiB
  scratchSize: 512MiB
  image: /images//x86_64/manifest.json
  accelerator: kvm
  rosetta: { enable: false }
  x86_64: [qemu-user]
  nestedVirtualization: true
  network: none
  userNamespace: required
  nix: /opt/nix/bin
  nixConf: { sandbox: true, max-jobs: 4, extra-platforms: [i686-linux, armv7l-linux], build-users-group: "" }
doors:
  ssh:
    listen: "[::1]:0"
    authorizedKeys: ${JSON.stringify(keys)}
metrics: null
audit: { file: /var/log/drover-audit.jsonl }
signing: { secretKeyFile: /etc/drover/signing.key }
control: { group: admin, path: /run/look.sock }
history: { keep: 7d, maxBuilds: 10, maxBytes: 1MiB, logs: failed }
log: { level: trace, file: /var/log/drover.log }
`;
    expect(parseConfig(text, 'drover.yaml', root)).toStrictEqual({
      stateDir: '/srv/drover',
      driver: 'namespace',
      systems: ['x86_64-linux', 'i686-linux'],
      features: [],
      pool: {
        maxGuests: 8,
        warmGuests: 8,
        jobsPerGuest: 1,
        isolation: 'shared',
        idleTimeoutMs: 0,
        bootTimeoutMs: 5_400_000,
        drainTimeoutMs: 500,
        maxBuilds: 1,
        maxAgeMs: 24 * 86_400_000,
      },
      guest: {
        cores: 3,
        memoryBytes: 4 * 1024 ** 3,
        scratch: 'auto',
        scratchSizeBytes: 512 * 1024 ** 2,
        store: 'exact',
        image: '/images/x86_64/manifest.json',
        accelerator: 'kvm',
        rosetta: { enable: false, cache: false },
        x86_64: ['qemu-user'],
        acceptVulnerableNix: false,
        keepFailedMs: 0,
        nestedVirtualization: true,
        network: 'none',
        userNamespace: 'required',
        nix: '/opt/nix/bin',
        nixConf: {
          sandbox: 'true',
          'max-jobs': '4',
          'extra-platforms': 'i686-linux armv7l-linux',
          'build-users-group': '',
        },
      },
      doors: {
        socket: { path: '/srv/drover/doors/nix.sock', restartGraceMs: 20_000 },
        ssh: expect.objectContaining({ listen: { host: '::1', port: 0 } }),
      },
      metrics: null,
      audit: { file: '/var/log/drover-audit.jsonl' },
      signing: { secretKeyFile: '/etc/drover/signing.key' },
      control: { group: 'admin', path: '/run/look.sock' },
      history: { keepMs: 7 * 86_400_000, maxBuilds: 10, maxBytes: 1024 ** 2, logs: 'failed' },
      log: { level: 'trace', file: '/var/log/drover.log' },
    });
  });

  test.each([
    ["{ listen: '127.0.0.9:1' }", true],
    ["{ listen: '[::1]:1' }", true],
    ["{ listen: 'localhost:1' }", true],
    ["{ listen: '0.0.0.0:1' }", false],
    ["{ listen: 'builder.example.org:1' }", false],
    ["{ listen: '0.0.0.0:1', page: true }", true],
    ['{ page: false }', false],
  ])('metrics: %s serves a page: %p', (metrics, page) => {
    expect(parseConfig(`metrics: ${metrics}`, 'drover.yaml', root).metrics).toMatchObject({ page });
  });

  it('may have a long stateDir where the socket is elsewhere', () => {
    const stateDir = `/${'a'.repeat(103)}`;
    const text = `{ stateDir: ${stateDir}, doors: { socket: { path: ${stateDir.slice(0, 103)} } } }`;
    expect(parseConfig(text, 'drover.yaml', root).stateDir).toBe(stateDir);
  });

  it('is a configuration or a ConfigError of whole lines, whatever its text', () => {
    const word = fc.constantFrom(
      'pool',
      'guest',
      ':',
      ' ',
      '\n',
      '- ',
      '[',
      ']',
      '{',
      '}',
      '&a',
      '*a',
      '?',
      '!',
      '5m',
      '"',
    );
    const text = fc.oneof(
      fc.string(),
      fc.array(word, { maxLength: 40 }).map((words) => words.join('')),
    );
    const survives = (source: string) => {
      try {
        return parseConfig(source, 'f', root).stateDir !== '';
      } catch (error) {
        const { code, message } = error as { code?: string; message: string };
        return code === 'CONFIG_INVALID' && message.split('\n').every((line) => /^f:\d+:\d+: \S/.test(line));
      }
    };
    fc.assert(fc.property(text, survives), { numRuns: 1000 });
  });
});

describe('loadConfig', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'drover-config-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const write = async (content: string | Buffer) => {
    const file = join(folder, 'drover.yaml');
    await writeFile(file, content);
    return file;
  };
  const load = (file: string) => loadConfig({ ...root, file });

  it('reads a file', async () => {
    expect(await load(await write('pool: { maxGuests: 7 }'))).toMatchObject({ pool: { maxGuests: 7 } });
  });

  it('rejects a file that other users could change, and says how to close it', async () => {
    const file = await write('');
    await chmod(file, 0o666);
    const fault = `other users can write ${file} (mode 0666)`;
    await expect(load(file)).rejects.toMatchObject({
      code: 'CONFIG_UNREADABLE',
      message: expect.stringContaining(fault) as unknown,
      hint: expect.stringContaining('chmod go-w') as unknown,
    });
    await chmod(file, 0o644);
    await expect(load(file)).resolves.toBeDefined();
  });

  it('says which file is missing, and which is a directory', async () => {
    const missing = join(folder, 'missing.yaml');
    await expect(load(missing)).rejects.toMatchObject({
      code: 'CONFIG_UNREADABLE',
      message: `${missing}: cannot read the configuration: there is no such file`,
    });
    await expect(load(folder)).rejects.toMatchObject({
      code: 'CONFIG_UNREADABLE',
      message: `${folder}: cannot read the configuration: this is a directory`,
    });
  });

  it('does not wait for a pipe where a file was read before', async () => {
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    await expect(loadConfig({ ...root, file: pipe, again: true })).rejects.toMatchObject({
      code: 'CONFIG_UNREADABLE',
      message: `${pipe}: cannot read the configuration: it is no longer a file`,
    });
    const writer = writeFile(pipe, 'pool: { maxGuests: 7 }');
    expect(await load(pipe)).toMatchObject({ pool: { maxGuests: 7 } });
    await writer;
  });

  it('rejects a file that is binary or too large', async () => {
    const file = await write(Buffer.concat([Buffer.from('# é\n# é'), Buffer.from([0xff])]));
    await expect(load(file)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: `${file}:2:4: the file is not UTF-8 text`,
    });
    await expect(load('/dev/zero')).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: '/dev/zero: the file is larger than 256 KiB',
    });
  });
});
