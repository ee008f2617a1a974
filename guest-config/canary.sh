#!/bin/sh
# canary.sh DIRECTORY: chooses what runs x86_64 programs in this guest: the first of the translators in DIRECTORY's
# guest.env that runs a small one. All others are disabled. If none does, the guest reports it on its console and in
# its answer to hello, and its Nix rejects builds for x86_64-linux, which would fail for obscure reasons.
set -eu
directory=$1
registrations=${DROVER_BINFMT:-/proc/sys/fs/binfmt_misc}
translators=
# shellcheck disable=SC1091 # written by the driver
. "$directory/guest.env"

say() { echo "drover: $*" >> "${DROVER_CONSOLE:-/dev/console}"; }
# switch TRANSLATOR 0|1: disables or enables it. Returns 1 if the kernel does not know it.
switch() {
  case $1 in
    rosetta) registration=$registrations/rosetta ;;
    *) registration=$registrations/x86_64-linux ;; # NixOS' name for QEMU's
  esac
  [ -e "$registration" ] && echo "$2" > "$registration"
}

for translator in rosetta qemu-user; do switch "$translator" 0 || true; done
if [ -n "$translators" ]; then
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
fi
for translator in $(echo "$translators" | tr , ' '); do
  if ! switch "$translator" 1; then
    say "$translator is not registered in this guest"
    continue
  fi
  status=0
  timeout 5 "$directory/canary" > /dev/null 2> "$directory/said" || status=$?
  # Rosetta's own reason, such as "unhandled auxillary vector type 29".
  said=$(head -n 1 "$directory/said" | tr -cd '\040-\176' | cut -c 1-200)
  if [ "$status" = 42 ]; then
    rm -f "$directory/canary" "$directory/said"
    echo "$translator" > "${DROVER_TRANSLATOR:-/run/drover-translator}"
    exit 0
  fi
  switch "$translator" 0
  say "$translator does not run x86_64 programs in this guest (exit status $status${said:+: $said})"
done
rm -f "$directory/canary" "$directory/said"
[ -z "$translators" ] || say 'x86_64-linux is not offered'
echo x86_64-linux >> "${DROVER_BROKEN_SYSTEMS:-/run/drover-broken-systems}"
sed -i '/^extra-platforms *=/s/ x86_64-linux\( \|$\)/\1/' "$directory/nix.conf"
