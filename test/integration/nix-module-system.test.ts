import { expect, test } from '@jest/globals';

import { evaluate } from '../support/nix-eval.js';
import { describeWith } from '../support/requirements.js';

/** The configuration that these modules make, with an option set `o` that `options` declares. */
async function config(options: string, modules: string): Promise<unknown> {
  return await evaluate(
    'debian',
    `let lib = import ./test/nix/lib.nix; in with lib;
     (evalModules { modules = [ { options.o = { ${options} }; } ${modules} ]; }).config`,
  );
}

const A = 'a = mkOption { type = types.listOf types.str; default = [ "default" ]; };';
const N = 'n = mkOption { type = types.ints.positive; default = 1; };';
const S = 's = mkOption { type = types.attrsOf types.int; default = { }; };';

describeWith("the tests' module system merges", ['nix'], () => {
  test.each([
    [
      'lists, in order',
      A,
      '{ o.a = mkAfter [ "3" ]; } { o.a = [ "2" ]; } { o.a = mkBefore [ "1" ]; }',
      { a: ['1', '2', '3'] },
    ],
    [
      'lists of several modules, the last and innermost first',
      A,
      '{ o.a = [ "1" ]; } { imports = [ { o.a = [ "3" ]; } { o.a = [ "4" ]; } ]; o.a = [ "2" ]; }',
      { a: ['4', '3', '2', '1'] },
    ],
    [
      'what conditions leave',
      A,
      '{ o = mkIf false { a = [ "1" ]; }; } { o.a = [ (mkIf false "2") (mkIf true "3") ]; }',
      { a: ['3'] },
    ],
    ['by priority', N, '{ o.n = mkDefault 2; } { o.n = mkForce 4; } { o.n = 3; }', { n: 4 }],
    [
      'sets by attribute',
      S,
      '{ o.s.x = 1; } { o.s = { y = mkDefault 2; z = mkIf false 3; }; } { o.s.y = 4; }',
      { s: { x: 1, y: 4 } },
    ],
    ['sets, the forced one alone', S, '{ o.s.x = 1; } { o.s = mkForce { y = 2; }; }', { s: { y: 2 } }],
    ['several contents', N + A, '{ o = mkMerge [ { n = 2; } (mkIf true { a = [ ]; }) ]; }', { n: 2, a: [] }],
    [
      'conditions on other options',
      N + A,
      '({ config, ... }: { config = mkIf (config.o.n == 1) { o.a = [ "one" ]; }; })',
      { n: 1, a: ['one'] },
    ],
  ])('%s', async (_, options, modules, expected) => {
    expect(await config(options, modules)).toEqual({ o: expected });
  });

  test('submodules, with their names, defaults and free-form settings', async () => {
    const submodule = `m = mkOption { type = types.attrsOf (types.submodule ({ name, config, ... }: {
      freeformType = types.attrsOf types.anything;
      options.id = mkOption { type = types.str; default = name; };
      options.twice = mkOption { type = types.str; default = config.id + config.id; };
    })); };`;
    expect(
      await config(
        submodule,
        '{ o.m.x = { }; } { o.m.y = { id = "z"; more.a = 1; }; } { o.m.y.more.b = 2; }',
      ),
    ).toEqual({
      o: { m: { x: { id: 'x', twice: 'xx' }, y: { id: 'z', twice: 'zz', more: { a: 1, b: 2 } } } },
    });
  });

  test('definitions that use arguments of modules', async () => {
    const modules = `({ who, ... }: { o.a = [ who ]; }) { o.a = [ "b" ]; _module.args.who = "a"; }`;
    expect(await config(A, modules)).toEqual({ o: { a: ['b', 'a'] } });
  });
});

describeWith("the tests' module system refuses", ['nix'], () => {
  test.each([
    [
      'a value of another type',
      N,
      '{ _file = "f.nix"; o.n = "x"; }',
      /`o\.n' is not of type `positive integer, meaning >0'.*In `f\.nix': "x"/s,
    ],
    ['a value out of bounds', N, '{ o.n = 0; }', /`o\.n' is not of type/],
    ['a wrong item of a list', A, '{ o.a = [ 1 ]; }', /`o\.a\..*' is not of type `string'/],
    ['a wrong attribute of a set', S, '{ o.s.x = true; }', /`o\.s\.x' is not of type `signed integer'/],
    ['different values', N, '{ o.n = 1; } { o.n = 2; }', /`o\.n' has conflicting definition values/],
    ['an option that is not declared', N, '{ _file = "f.nix"; o.m = 1; }', /`o\.m' does not exist.*f\.nix/s],
    [
      'an option without a value',
      'n = mkOption { type = types.int; };',
      '',
      /`o\.n' was accessed but has no value defined/,
    ],
    [
      'an option that is declared twice, with a default each',
      N,
      '{ options.o.n = mkOption { default = 2; }; }',
      /`o\.n'.*declared/s,
    ],
    ['options that are not a set', N, '{ o = 1; }', /`o'/],
    [
      'an argument that is not defined',
      N,
      '({ absent, ... }: { o.n = absent; })',
      /argument `absent'|attribute 'absent' missing/,
    ],
    ['a module that mixes short and long form', N, '{ config = { }; o.n = 1; }', /`config'/],
    [
      'a setting of mkOption that there is not',
      'n = mkOption { defualt = 1; };',
      '',
      /unexpected argument 'defualt'/,
    ],
    [
      'a type that is not a type',
      'n = mkOption { type = types.listOf "str"; };',
      '{ o.n = [ ]; }',
      /listOf takes a type|expected a set/,
    ],
  ])('%s', async (_, options, modules, expected) => {
    await expect(config(options, modules)).rejects.toThrow(expected);
  });
});
