#!/bin/sh
# arm-image.sh: builds the guest image for Macs on aarch64-linux, and boots it in QEMU with the programs of flake.lock's
# nixpkgs: the devices that Virtualization.framework would give it, but Rosetta and its own VirtioFS.
set -eu
cd "$(dirname "$0")/../.."
program() { echo "$(nix build --no-link --print-out-paths --inputs-from . "nixpkgs#$1")/bin/$2"; }
nix build --print-build-logs --out-link image .#guest-image
QEMU=$(program qemu qemu-system-aarch64)
VIRTIOFSD=$(program virtiofsd virtiofsd)
VHOST_VSOCK=$(program vhost-device-vsock vhost-device-vsock)
export QEMU VIRTIOFSD VHOST_VSOCK KERNEL_PARAMETERS="drover.store=exact"
exec scripts/ci/virt.sh image 'drover: guest is up'
