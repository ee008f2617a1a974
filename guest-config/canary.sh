#!/bin/sh
# canary.sh DIRECTORY: runs a small x86_64 program if DIRECTORY's guest.env announces Rosetta. If that fails,
# the guest reports it on its console and in its answer to hello, and its Nix rejects builds for x86_64-linux,
# which would fail for obscure reasons.
set -eu
directory=$1
rosetta=off
# shellcheck disable=SC1091 # written by the driver
. "$directory/guest.env"
status=none
if [ "$rosetta" != off ]; then
  # The headers of a static ELF file, then: mov edi, 42; mov eax, 60 (exit); syscall.
  {
    printf '\177ELF\002\001\001\000\000\000\000\000\000\000\000\000'
    printf '\002\000\076\000\001\000\000\000\170\000\100\000\000\000\000\000'
    printf '\100\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000'
    printf '\000\000\000\000\100\000\070\000\001\000\000\000\000\000\000\000'
    printf '\001\000\000\000\005\000\000\000\000\000\000\000\000\000\000\000'
    printf '\000\000\100\000\000\000\000\000\000\000\100\000\000\000\000\000'
    printf '\204\000\000\000\000\000\000\000\204\000\000\000\000\000\000\000'
    printf '\000\020\000\000\000\000\000\000'
    printf '\277\052\000\000\000\270\074\000\000\000\017\005'
  } > "$directory/canary"
  chmod 700 "$directory/canary"
  status=0
  timeout 5 "$directory/canary" > /dev/null 2> "$directory/said" || status=$?
  # Rosetta's own reason, such as "unhandled auxillary vector type 29".
  said=$(head -n 1 "$directory/said" | tr -cd '[:print:]' | cut -c 1-200)
  rm -f "$directory/canary" "$directory/said"
  [ "$status" != 42 ] || exit 0
  echo "drover: x86_64 programs do not run in this guest (exit status $status${said:+: $said}): x86_64-linux is not offered" >> "${DROVER_CONSOLE:-/dev/console}"
fi
echo x86_64-linux >> "${DROVER_BROKEN_SYSTEMS:-/run/drover-broken-systems}"
sed -i '/^extra-platforms *=/s/ x86_64-linux\( \|$\)/\1/' "$directory/nix.conf"
