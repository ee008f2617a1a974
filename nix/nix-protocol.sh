#!/bin/sh
# nix-protocol.sh NIX-DAEMON: asks a Nix, by the beginning of a handshake, which worker protocol it speaks. Prints
# { "major": 1, "minor": 38, "features": [] }.
set -eu
daemon=$1
home=$(mktemp -d)
child=
trap '' PIPE
trap 'kill "$child" 2> /dev/null || true; rm -rf "$home"' EXIT

fail() {
  echo "nix-protocol: $daemon does not speak the worker protocol" >&2
  exit 1
}
# The first two of its next 8 bytes, in $low and $high: a number, least significant byte first.
next() {
  # shellcheck disable=SC2046 # words
  set -- $(dd bs=1 count=8 <&4 2> /dev/null | od -A n -v -t u1)
  [ $# = 8 ] || fail
  low=$1 high=$2 word=$*
}

mkfifo "$home/to" "$home/from"
HOME=$home NIX_CONF_DIR=$home NIX_REMOTE='dummy://' "$daemon" --stdio < "$home/to" > "$home/from" 2> /dev/null &
child=$!
# Held open while it is asked: it ends as soon as the other end is closed.
exec 3> "$home/to" 4< "$home/from"

# Its magic number answers a client's; we speak 1.255, with no features, which it asks for from 1.38 on.
printf 'cxin\0\0\0\0\377\001\0\0\0\0\0\0\0\0\0\0\0\0\0\0' >&3 2> /dev/null || fail
next
[ "$word" = "111 105 120 100 0 0 0 0" ] || fail
next
major=$high minor=$low features=
if [ "$major" -gt 1 ] || [ "$minor" -ge 38 ]; then
  next
  count=$low
  while [ "$count" -gt 0 ]; do
    next # a text is its length and its bytes, filled up with zeros to 8
    features="$features${features:+, }\"$(dd bs=1 count=$(((low + 256 * high + 7) / 8 * 8)) <&4 2> /dev/null | tr -d '\0')\""
    count=$((count - 1))
  done
fi
echo "{ \"major\": $major, \"minor\": $minor, \"features\": [$features] }"
