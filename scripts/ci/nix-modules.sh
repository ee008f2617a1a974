#!/bin/sh
# nix-modules.sh: the tests of the Nix modules, with nixpkgs' own lib in place of test/nix/lib.
set -eu
cd "$(dirname "$0")/../.."
scripts/get-nix.sh forky "$PWD/.cache/nix-forky"
nixpkgs=$(.cache/nix-forky/bin/nix --extra-experimental-features 'nix-command flakes' eval --raw --impure \
  --expr '(builtins.fetchTree (builtins.fromJSON (builtins.readFile ./flake.lock)).nodes.nixpkgs.locked).outPath')
DROVER_NIXPKGS_LIB=$nixpkgs/lib npm test -- test/integration/nix-
