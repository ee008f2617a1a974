#!/bin/sh
# guest-image.sh DIRECTORY NIX-PROTOCOL: makes a guest image (docs/images.md) in DIRECTORY, from these
# variables: kernel, initrd (files), architecture, systems, translators (words), commandLine, shell, toplevel. The Nix
# on PATH is the guest's; NIX-PROTOCOL is the script that asks for its protocol version.
set -eu
directory=$1
: "${kernel:?}" "${initrd:?}" "${architecture:?}" "${systems:?}" "${commandLine:?}" "${shell:?}" "${toplevel:?}"
nix_version=$(nix-daemon --version | sed -n 's/.*(Nix) \([^ ]*\).*/\1/p')
[ -n "$nix_version" ] || { echo "guest-image: nix-daemon does not tell its version" >&2; exit 1; }
protocol=$(sh "$2" nix-daemon)
hash_of() { sha256sum < "$1" | cut -d ' ' -f 1; }
kernel_hash=$(hash_of "$kernel")
initrd_hash=$(hash_of "$initrd")
mkdir -p "$directory"
ln -s "$kernel" "$directory/kernel"
ln -s "$initrd" "$directory/initrd"
# The command line names the system by its store path, and so stands for all that is in it.
generation=$(echo "$kernel_hash $initrd_hash $systems $commandLine" | sha256sum | cut -c 1-16)
jq -n \
  --arg generation "$generation" \
  --arg nixVersion "$nix_version" \
  --argjson protocol "$protocol" \
  --arg systems "$systems" \
  --arg translators "${translators?}" \
  --arg architecture "$architecture" \
  --arg kernel "$kernel_hash" \
  --arg initrd "$initrd_hash" \
  --arg commandLine "$commandLine" \
  --arg shell "$shell" \
  --arg system "$toplevel" \
  '{ $generation, $nixVersion, $protocol, systems: ($systems | split(" ")), $architecture,
     translators: ($translators | split(" ")),
     kernel: { path: "kernel", sha256: $kernel }, initrd: { path: "initrd", sha256: $initrd },
     $commandLine, $shell, $system }' > "$directory/manifest.json"
