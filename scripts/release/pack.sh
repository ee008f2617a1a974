#!/bin/sh
# pack.sh IMAGE DIRECTORY: puts the files of a release into DIRECTORY: kernel, initrd and manifest of IMAGE (a guest
# image in a Nix store), closure.tar with everything that the image refers to as a binary cache, and SHA256SUMS. The
# same image makes the same files.
set -eu
image=$(readlink -f "$1")
mkdir -p "$2"
directory=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for file in kernel initrd manifest.json; do cp -L "$image/$file" "$directory/$file"; done
chmod 644 "$directory"/*
nix-store --query --requisites "$image" | grep -vx "$image" | LC_ALL=C sort > "$work/roots"
# Compressed by xz, one thread: the same bytes everywhere.
# shellcheck disable=SC2046 # store paths have no spaces
nix --extra-experimental-features nix-command copy --to "file://$work/closure?compression=xz" $(cat "$work/roots")
mv "$work/roots" "$work/closure/roots"
tar -C "$work/closure" --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -cf "$directory/closure.tar" .
(cd "$directory" && sha256sum closure.tar initrd kernel manifest.json > SHA256SUMS)
