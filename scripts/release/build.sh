#!/bin/sh
# build.sh DIRECTORY: builds the guest image of Macs on aarch64-linux, boots it once, and packs it.
set -eu
cd "$(dirname "$0")/../.."
scripts/ci/arm-image.sh
scripts/release/pack.sh image "$1"
