#!/bin/sh
# rosettad.sh IDENTITY PROGRAM CACHE DIRECTORY: runs Rosetta's daemon, which keeps translations in CACHE, and shows its
# socket in DIRECTORY, where the host has told Rosetta to look for it; if the guest.env in IDENTITY wants that.
set -eu
identity=$1 program=$2 cache=$3 directory=$4
rosetta=off
# shellcheck disable=SC1091 # written by the driver
. "$identity/guest.env"
[ "$rosetta" = cache ] || exit 0

mkdir -p "$cache" "$directory"
"$program" daemon "$cache" &
daemon=$!
until [ -S "$cache/uds/rosetta.sock" ]; do
  kill -0 "$daemon" || exit 1
  sleep 0.05
done
# For the users that builds run as.
chmod 711 "$cache" "$cache/uds"
chmod 666 "$cache/uds/rosetta.sock"
mount -o bind "$cache/uds" "$directory"
wait "$daemon"
