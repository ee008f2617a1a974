#!/bin/sh
# build.sh DIRECTORY: builds the guest image of Macs on aarch64-linux, boots it once, packs and signs it, with
# flake.lock's minisign.
set -eu
cd "$(dirname "$0")/../.."
scripts/ci/arm-image.sh
PATH=$(nix build --no-link --print-out-paths --inputs-from . nixpkgs#minisign)/bin:$PATH
export PATH
scripts/release/pack.sh image "$1"
scripts/release/sign.sh "$1"
