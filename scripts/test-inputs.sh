#!/usr/bin/env bash
# Gets what the tests with real guests need, into .cache: a modern Nix beside the host's, and the demo's packages.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .cache
scripts/get-nix.sh forky "$PWD/.cache/nix-forky"
demo/fetch.sh "$PWD/.cache/demo"
