#!/bin/sh
# flake-checks.sh CHECK...: builds these checks of the flake, for this machine's system, and the guest image.
set -eu
cd "$(dirname "$0")/../.."
nix flake show
system=$(nix eval --raw --impure --expr builtins.currentSystem)
for check; do nix build --print-build-logs ".#checks.$system.$check"; done
# As bootstrap has a Mac's linux-builder build it.
nix build --print-build-logs --out-link image .#guest-image
cat image/manifest.json
