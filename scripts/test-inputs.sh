#!/usr/bin/env bash
# Gets what the tests with real guests need, into .cache: a modern Nix beside the host's, the demo's packages,
# QEMU and virtiofsd, and guest images for them.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .cache
scripts/get-nix.sh forky "$PWD/.cache/nix-forky"
demo/fetch.sh "$PWD/.cache/demo"
scripts/get-qemu.sh "$PWD/.cache/qemu"
for architecture in x86_64 aarch64; do
  guest-config/debian/build.sh "$architecture" "$PWD/.cache/images/$architecture"
done
if [ "$(uname -m)" = x86_64 ]; then
  guest-config/debian/add-emulator.sh "$PWD/.cache/images/x86_64" aarch64 /usr/bin/qemu-aarch64-static \
    "$PWD/.cache/images/x86_64-emulating"
fi
test/support/get-systemd.sh "$PWD/.cache/systemd"
