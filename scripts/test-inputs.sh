#!/usr/bin/env bash
# test-inputs.sh REQUIREMENT...: downloads or builds the inputs of these requirements
# (test/support/requirements.ts) into .cache; requirements without inputs are ignored. scripts/setup.sh
# installs the tools for it.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .cache
for requirement; do
  case $requirement in
    modern-nix) scripts/get-nix.sh forky "$PWD/.cache/nix-forky" ;;
    demo-packages) demo/fetch.sh "$PWD/.cache/demo" ;;
    vms)
      scripts/get-qemu.sh "$PWD/.cache/qemu"
      for architecture in x86_64 aarch64; do
        guest-config/debian/build.sh "$architecture" "$PWD/.cache/images/$architecture"
      done
      if [ "$(uname -m)" = x86_64 ]; then
        guest-config/debian/add-emulator.sh "$PWD/.cache/images/x86_64" aarch64 /usr/bin/qemu-aarch64-static \
          "$PWD/.cache/images/x86_64-emulating"
      fi
      ;;
    nixos-units) test/support/get-systemd.sh "$PWD/.cache/systemd" ;;
    vz-helper)
      scripts/get-darwin-headers.sh .cache/darwin-headers
      sh vz-helper/check.sh
      ;;
  esac
done
