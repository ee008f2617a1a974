import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { buildImage, configurationFile, configurationOf } from '../../src/cli/vm-configuration.js';
import { ownStore } from '../support/nix.js';
import { describeWith } from '../support/requirements.js';

/** Stand-in for a NixOS system that imports nixosModules.guest: its image is a file with that text. */
const system = (text: string): string => `{
  config.system.build.droverImage = derivation {
    name = "image"; system = builtins.currentSystem or "x86_64-linux"; builder = "/bin/sh";
    args = [ "-c" "echo \${${text}} > $out" ];
  };
}`;

describeWith('what drover vm builds of a path', ['modern-nix'], () => {
  let dir: string;
  let env: NodeJS.ProcessEnv;
  const at = (name: string): string => join(dir, name);
  async function flake(name: string, configurations: string): Promise<string> {
    await mkdir(at(name));
    await writeFile(at(`${name}/flake.nix`), `{ outputs = _: { ${configurations} }; }`);
    return `path:${at(name)}`;
  }

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'vm-configuration-'));
    // A NixOS of which only the interface is there.
    await mkdir(at('nixpkgs/nixos'), { recursive: true });
    await writeFile(
      at('nixpkgs/nixos/default.nix'),
      `{ configuration, system }: let module = import configuration; in
      if module ? guest then ${system('module.guest + " for " + system')} else { config.system.build.toplevel = ""; }`,
    );
    env = { ...(await ownStore(dir)), NIX_PATH: `nixpkgs=${at('nixpkgs')}` };
  });
  afterAll(async () => {
    await execa('chmod', ['-R', 'u+w', dir]);
    await rm(dir, { recursive: true });
  });

  const builders = '';
  const refusal = (message: RegExp, hint: RegExp): object => ({
    code: 'VM_REFUSED',
    message: expect.stringMatching(message),
    hint: expect.stringMatching(hint),
  });

  test("builds a .nix file, with NIX_PATH's nixpkgs, for this machine's Linux", async () => {
    const file = at("a file's ${name}.nix");
    await writeFile(file, '{ guest = "own"; }');
    const path = await buildImage(configurationFile(file), { env, builders });
    const own = process.arch === 'arm64' ? 'aarch64-linux' : 'x86_64-linux';
    expect(await readFile(path, 'utf8')).toBe(`own for ${own}\n`);
  });

  test('refuses a .nix file that is not a guest, and one without a nixpkgs', async () => {
    const file = at('other.nix');
    await writeFile(file, '{ }');
    await expect(buildImage(configurationFile(file), { env, builders })).rejects.toMatchObject(
      refusal(/other\.nix is not a NixOS system that imports nixosModules\.guest/, /Add nixosModules\.guest/),
    );
    await expect(
      buildImage(configurationFile(file), { env: { ...env, NIX_PATH: '' }, builders }),
    ).rejects.toMatchObject(refusal(/other\.nix could not be built/, /nixpkgs of NIX_PATH/));
  });

  test('builds the only configuration of a flake, and the one called default', async () => {
    const only = await flake('only', `nixosConfigurations.box = ${system('"the box"')};`);
    const path = await buildImage(await configurationOf(only, env), { env, builders });
    expect(await readFile(path, 'utf8')).toBe('the box\n');
    const several = await flake('several', 'nixosConfigurations = { box = { }; default = { }; };');
    expect((await configurationOf(several, env)).name).toBe(`${several}#default`);
  });

  test('a flake with several configurations, or none, says which there are', async () => {
    const two = await flake('two', 'nixosConfigurations = { box = { }; other = { }; };');
    await expect(configurationOf(two, env)).rejects.toMatchObject(
      refusal(/has several configurations/, /FLAKE#NAME: box, other\./),
    );
    const none = await flake('none', 'packages = { };');
    await expect(configurationOf(none, env)).rejects.toMatchObject(
      refusal(/has no nixosConfigurations/, /what Nix says/),
    );
    const empty = await flake('empty', 'nixosConfigurations = { };');
    await expect(configurationOf(empty, env)).rejects.toMatchObject(
      refusal(/has no nixosConfigurations/, /Add a NixOS configuration/),
    );
  });
});
