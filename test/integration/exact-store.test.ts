import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { listPath } from '../../src/guest/listing.js';
import { REPOSITORY } from '../support/drover.js';
import { describeWith } from '../support/requirements.js';

const HASH = 'aaaa0123456789abcdfghijklmnpqrsv';

/** The program on this host, below an overlay as in a guest; it must not end the machine here. */
describeWith('exact-store', ['root'], () => {
  let built: string;
  let dir: string;
  let source: string;
  let program: string;
  /** Mount namespace in which everything is mounted. */
  let inside: (script: string, through?: readonly string[]) => Promise<string>;

  beforeAll(async () => {
    built = await mkdtemp(join(tmpdir(), 'exact-build-'));
    program = join(built, 'exact-store');
    const sources = join(REPOSITORY, 'guest-config/exact-store');
    await execa('sh', [
      '-c',
      `exec cc -O1 -g -Wall -Wextra -Werror -pthread -o "$1" "$2"/*.c`,
      'sh',
      program,
      sources,
    ]);
  });
  afterAll(async () => {
    await rm(built, { recursive: true });
  });

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'exact-'));
    source = join(dir, 'source');
    for (const name of ['source', 'view', 'upper', 'work', 'store']) await mkdir(join(dir, name));
    const sh = `
      set -u; cd ${dir}
      tell() { cat > told; ${program} register ${dir}/socket ${dir}/store 1 < told; }
      ${program} mount source view socket 2>> errors
      mount -t overlay -o lowerdir=view,upperdir=upper,workdir=work overlay store
    `;
    inside = async (script, through = []) => {
      // In a process namespace of its own: the guardian's power-off then ends only that.
      const namespaces = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
      const { stdout } = await execa(
        'unshare',
        [...namespaces, ...through, '/bin/sh', '-c', `${sh}\n${script}`],
        {
          stderr: 'inherit',
          env: { MAC_VOLUME_LOG: join(dir, 'flags') },
        },
      );
      return stdout;
    };
  });
  afterEach(async () => {
    await rm(dir, { recursive: true, force: true });
  });

  /** A path in the source, and what the guest is told of it. */
  async function tellOf(name: string, caseHack = true): Promise<string> {
    const text = `path ${name}\n${await listPath(join(source, name), caseHack)}registration\nREGISTERED\n`;
    await writeFile(join(dir, `tell-${name}`), text);
    return `tell < tell-${name}`;
  }

  test('shows nothing until it is told, then every name exactly as listed', async () => {
    const path = `${HASH}-casey`;
    await mkdir(join(source, path, 'sub'), { recursive: true });
    await writeFile(join(source, path, 'FOO'), 'upper');
    await writeFile(join(source, path, 'foo~nix~case~hack~1'), 'lower');
    await writeFile(join(source, path, 'sub/program'), 'x');
    await chmod(join(source, path, 'sub/program'), 0o755);
    await symlink('foo', join(source, path, 'link'));
    await writeFile(join(source, `${HASH}-out.lock`), '');
    const tell = await tellOf(path);
    const seen = await inside(`
      ls store; cat store/${path}/foo 2>&1
      ${tell}
      ls store; ls store/${path}; cat store/${path}/foo store/${path}/FOO store/${path}/link
      cat store/${path}/Foo 2> /dev/null || echo " absent"
      stat -c '%a %u %Y %h' store/${path}/sub store/${path}/sub/program store/${path}/FOO
      ls upper
    `);
    expect(seen.split('\n')).toEqual([
      `cat: store/${path}/foo: No such file or directory`,
      'REGISTERED',
      path,
      ...['FOO', 'foo', 'link', 'sub'],
      'lowerupperlower absent',
      ...['555 0 1 2', '555 0 1 1', '444 0 1 1'],
    ]);
  });

  test('a path that was looked for before it is told of, and one that is not there', async () => {
    const path = `${HASH}-late`;
    await writeFile(join(source, path), 'late');
    const tell = await tellOf(path);
    await writeFile(join(dir, 'gone'), `path ${HASH}-gone\nf 1 .\nregistration\nNOT REGISTERED\n`);
    const seen = await inside(`
      cat store/${path} 2> /dev/null; ${tell}; cat store/${path}; echo
      tell < gone; echo $?
      cat store/${HASH}-gone 2> /dev/null || echo absent
    `);
    expect(seen.split('\n')).toEqual(['REGISTERED', 'late', `${dir}/store/${HASH}-gone`, '3', 'absent']);
  });

  test('a path that the host collected, and has again with other contents', async () => {
    const path = `${HASH}-again`;
    await mkdir(join(source, path));
    await writeFile(join(source, path, 'old'), 'old');
    const first = await tellOf(path);
    const second = (await tellOf(path)).replace(/tell-/, 'second-');
    const changed = 'd 0 .\nf 5 new\n\n';
    await writeFile(join(dir, `second-${path}`), `path ${path}\n${changed}registration\nSECOND\n`);
    const seen = await inside(`
      ${first}; cat store/${path}/old; echo
      rm -r source/${path}; mkdir source/${path}; printf other > source/${path}/new
      ${second}; mount -o remount overlay store
      ls store/${path}; cat store/${path}/new
    `);
    expect(seen.split('\n')).toEqual(['REGISTERED', 'old', 'SECOND', 'new', 'other']);
  });

  test('a file that is listed and cannot be read is an error, never absent', async () => {
    const path = `${HASH}-lost`;
    await mkdir(join(source, path));
    await writeFile(join(source, path, 'file'), 'contents');
    await writeFile(join(source, path, 'shorter'), 'contents');
    const tell = await tellOf(path);
    const seen = await inside(`
      ${tell}; rm source/${path}/file; printf x > source/${path}/shorter
      cat store/${path}/file store/${path}/shorter 2>&1; ls store/${path}
    `);
    expect(seen).toBe(
      [
        'REGISTERED',
        `cat: store/${path}/file: Input/output error`,
        `cat: store/${path}/shorter: Input/output error`,
        ...['file', 'shorter'],
      ].join('\n'),
    );
    expect(await readFile(join(dir, 'errors'), 'utf8')).toContain('file is listed, and cannot be opened');
  });

  test('opens files of a share without O_DIRECT, whose number another architecture takes for a directory', async () => {
    const path = `${HASH}-direct`;
    await mkdir(join(source, path));
    await writeFile(join(source, path, 'file'), 'contents');
    const tell = await tellOf(path);
    const volume = join(built, 'mac-volume');
    const fixture = join(REPOSITORY, 'test/fixtures/mac-volume/mac-volume.c');
    await execa('cc', ['-O1', '-Wall', '-Wextra', '-Werror', '-o', volume, fixture]);
    const seen = await inside(`${tell}; cat store/${path}/file`, [volume, source]);
    expect(seen).toBe('REGISTERED\ncontents');
    const flags = (await readFile(join(dir, 'flags'), 'utf8')).split('\n').slice(0, -1);
    // Read past this cache, since the exact store's own mount has one.
    expect([...new Set(flags)]).toEqual(['open', 'read with O_DIRECT']);
  });

  test.each([
    ['a name that leaves its directory', 'd 0 .\nf 0 ..\n\n'],
    ['a name with a slash', 'd 0 .\nf 0 a%2Fb\n\n'],
    ['a NUL', 'd 0 .\nf 0 a%00\n\n'],
    ['names out of order', 'd 0 .\nf 0 b\nf 0 a\n\n'],
    ['one name twice', 'd 0 .\nf 0 a\nf 0 a\n\n'],
    ['a size that is not a number', 'f 1x .\n'],
    ['a negative size', 'f -1 .\n'],
    ['an unknown type', 's 0 .\n'],
    ['a listing that is cut', 'd 0 .\nf 0 a\n'],
    ['a line that is too long', `l ${'x'.repeat(17_000)} .\n`],
  ])('rejects a listing with %s, and goes on', async (_, listing) => {
    const path = `${HASH}-good`;
    await writeFile(join(source, path), 'good');
    await writeFile(join(source, `${HASH}-bad`), '');
    await writeFile(join(dir, 'bad'), `path ${HASH}-bad\n${listing}registration\nNOT\n`);
    const tell = await tellOf(path);
    const seen = await inside(`tell < bad 2> why; echo $?; cat why; ${tell}; cat store/${path}`);
    expect(seen).toMatch(/^1\nexact-store: .+\nREGISTERED\ngood$/);
  });

  test('takes 200 bytes or less for a file', async () => {
    const path = `${HASH}-many`;
    const files = Array.from(
      { length: 20_000 },
      (__, n) => `f 0 header-with-a-long-name-${String(n).padStart(6, '0')}.h`,
    );
    await mkdir(join(source, path));
    await writeFile(
      join(dir, `tell-${path}`),
      `path ${path}\nd 0 .\n${files.join('\n')}\n\nregistration\nREGISTERED\n`,
    );
    const seen = await inside(`tell < tell-${path}; ls store/${path} | wc -l; ${program} status socket`);
    expect(seen).toContain('\n20000\n');
    expect(Number(/listing_bytes (\d+)/.exec(seen)?.[1])).toBeLessThan(20_000 * 200);
  });

  test("lists as the supervisor does, and shows an image's own listing on a host that renames", async () => {
    const path = `${HASH}-own`;
    await mkdir(join(dir, path, 'b c'), { recursive: true });
    for (const name of ['FOO', 'Foo', 'b c/x', 'foo', 'zed']) await writeFile(join(dir, path, name), name);
    await symlink('b c', join(dir, path, 'link'));
    const { stdout: listing } = await execa(program, ['list', join(dir, path)], { stripFinalNewline: false });
    expect(listing).toBe(`path ${path}\n${await listPath(join(dir, path), false)}`);
    await mkdir(join(source, path, 'b c'), { recursive: true });
    for (const name of ['FOO', 'Foo~nix~case~hack~1', 'b c/x', 'foo~nix~case~hack~2', 'zed'])
      await writeFile(join(source, path, name), name.replace(/~.*/, ''));
    await writeFile(join(dir, 'listing'), listing);
    const seen = await inside(`
      ${program} show socket case-hack < listing; cat store/${path}/FOO store/${path}/Foo store/${path}/foo
    `);
    expect(seen).toBe('FOOFoofoo');
  });

  test.each(['head', 'tail'])('ends the machine when it or its guardian is killed: %s', async (which) => {
    const killed = inside(
      `kill -9 $(pidof exact-store | tr ' ' '\\n' | sort -n | ${which} -n 1); exec sleep 1000`,
    );
    await expect(killed).rejects.toMatchObject({ signal: 'SIGINT' });
  });
});
