#!/bin/sh
# mac-boot.sh: builds in real guests, on a Mac of one's own with Nix, sudo without a password, and no data that matters.
set -eu
cd "$(dirname "$0")/../.."
drover() { sudo /nix/var/nix/profiles/drover/bin/drover "$@" --config /etc/drover/drover.yaml; }
trap "sudo sh -c 'tail -n 100 /var/log/drover.log /var/lib/drover/logs/*'" EXIT
softwareupdate --install-rosetta --agree-to-license
nix run .#bootstrap
# aarch64-linux and x86_64-linux are built in guests.
sudo nix run .#demo
drover status
# From a cold start to the first line.
# shellcheck disable=SC2016 # Nix and the builder expand them
time nix build --impure --no-link --max-jobs 0 --expr \
  'derivation { name = "cold"; system = "aarch64-linux"; now = toString builtins.currentTime; builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; }'
