#!/bin/sh
# import-closure.sh IMAGE GC-ROOTS: makes the system of a released image (nix/release.nix) valid in this host's
# store, where guests look for it, and keeps it from the garbage collector by links in GC-ROOTS. Does nothing that
# is done already, and keeps the system of the image before until this one is there.
#
# Signatures are not asked for: the image was fetched by a hash that Drover's source names.
set -eu
image=$1 roots=$2
closure=$image/closure
wanted=$(cat "$closure/roots")
# Before they are valid, so that none is collected in between.
mkdir -p "$roots"
for path in $wanted; do ln -sfn "$path" "$roots/${path##*/}"; done
# shellcheck disable=SC2086 # store paths have no spaces
if ! nix-store --check-validity $wanted 2> /dev/null; then
  echo "adding the guests' system to the store" >&2
  # shellcheck disable=SC2086
  nix --extra-experimental-features nix-command copy --no-check-sigs --from "file://$closure" $wanted || {
    echo "drover: the guests' system cannot be added to the store from $closure" >&2
    exit 1
  }
fi
for link in "$roots"/*; do grep -qxF "$(readlink "$link")" "$closure/roots" || rm -f "$link"; done
