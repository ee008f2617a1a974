#!/bin/sh
# exact-store.sh PROGRAM SHARE HOST: in the initrd, puts the exact store (PROGRAM) on HOST, above SHARE, and shows in it
# what the kernel's parameter drover.listing lists: the guest's own system. With drover.store=raw, HOST is SHARE itself.
# drover.case-hack: the host's Nix renames files whose names differ only in case.
set -eu
program=$1 share=$2 host=$3
socket=${DROVER_EXACT_STORE:-/run/exact-store.sock}
store=raw names=literal listing=
read -r cmdline < "${DROVER_PROC:-/proc}/cmdline"
for word in $cmdline; do
  case $word in
    drover.store=*) store=${word#*=} ;;
    drover.case-hack) names=case-hack ;;
    drover.listing=*) listing=${word##*/} ;;
  esac
done
mkdir -p "$host"
if [ "$store" != exact ]; then
  mount -o bind "$share" "$host"
  exit
fi
"$program" mount "$share" "$host" "$socket"
"$program" show "$socket" "$names" < "$share/$listing"
