# The tests that need neither Nix nor root nor a network, as a build.
{
  callPackage,
  drover,
  lib,
  nodejs,
}:
let
  npmDeps = callPackage ./npm-deps.nix { inherit nodejs; };
in
drover.overrideAttrs (old: {
  pname = "drover-unit-tests";
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../package.json
      ../package-lock.json
      ../docs/errors.md
      ../jest.config.js
      ../tsconfig.json
      ../tsconfig.build.json
      ../scripts/build.sh
      ../src
      ../connect
      ../namespace
      ../guest-config
      ../test
    ];
  };
  npmDeps = npmDeps { root = ../.; };
  buildPhase = ''
    node --experimental-vm-modules node_modules/jest/bin/jest.js --selectProjects unit
  '';
  installPhase = ''
    touch $out
  '';
  doInstallCheck = false;
})
