#!/bin/sh
# mac-flake.sh: Drover and vz-helper by Nix on a Mac, the flake's checks, and bootstrap's steps.
set -eu
cd "$(dirname "$0")/../.."
nix build --print-build-logs .#default .#vz-helper
helper=$(nix build --no-link --print-out-paths .#vz-helper)/bin/vz-helper
codesign --verify --strict --verbose=2 "$helper"
codesign --display --entitlements - "$helper" | grep com.apple.security.virtualization
nix flake check --print-build-logs
nix run .#bootstrap -- --dry-run
