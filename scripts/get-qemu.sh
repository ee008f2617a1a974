#!/usr/bin/env bash
# get-qemu.sh PREFIX
#
# QEMU (x86_64 and aarch64) and virtiofsd of Debian 13 on an older Debian, whose own versions lack features
# that the qemu driver needs: unpacked into PREFIX with their libraries, including their C library. They are
# not installed. Afterwards PREFIX/bin holds qemu-system-x86_64, qemu-system-aarch64 and virtiofsd, for use on
# PATH. PREFIX cannot be moved: remove it and run this again. Exits at once if PREFIX already holds them.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib/private-apt.sh disable=SC1091
. "$(dirname "$0")/lib/private-apt.sh"

if [ $# -ne 1 ]; then
  echo "usage: $0 PREFIX    for example: $0 ~/.cache/qemu" >&2
  exit 2
fi
prefix=$(realpath -m "$1")
stamp=$prefix/.get-qemu
programs=(usr/bin/qemu-system-x86_64 usr/bin/qemu-system-aarch64 usr/libexec/virtiofsd)
versions() { for program in "${programs[@]}"; do "$prefix/bin/${program##*/}" --version | sed -n 1p; done; }

if [ -e "$stamp" ] && versions 2>/dev/null; then
  exit 0
fi
if [ -e "$prefix" ] && [ ! -e "$stamp" ] && [ -n "$(ls -A "$prefix")" ]; then
  echo "$0: $prefix exists and was not made by this script; remove it or choose another place" >&2
  exit 1
fi
private_apt_check
need patchelf patchelf

mkdir -p "$(dirname "$prefix")"
new=$prefix.tmp
state=$(mktemp -d)
trap 'rm -rf "$state" "$new"' EXIT
rm -rf "$prefix" "$new"
private_apt_setup "$state" trixie
private_apt_unpack "$state" "$new" qemu-system-x86 qemu-system-arm qemu-system-data seabios virtiofsd
# QEMU looks for all of its firmware in the host's /usr/share unless told otherwise: a single directory.
cp "$new"/usr/share/seabios/*.bin "$new/usr/share/qemu/"
rm -rf "$new"/usr/share/{doc,man,icons,applications,lintian,bug} "$new"/usr/share/qemu/*.fd
loader=$(cd "$new" && echo usr/lib/*-linux-gnu/ld-linux-*.so.*)
mkdir "$new/bin"
for program in "${programs[@]}"; do
  patchelf --set-interpreter "$prefix/$loader" --force-rpath --set-rpath "$prefix/${loader%/*}" "$new/$program"
  firmware=
  case $program in *qemu-system*) firmware=" -L $prefix/usr/share/qemu" ;; esac
  printf '#!/bin/sh\nexec %s/%s%s "$@"\n' "$prefix" "$program" "$firmware" >"$new/bin/${program##*/}"
  chmod 755 "$new/bin/${program##*/}"
done
touch "$new/.get-qemu"
mv "$new" "$prefix"
versions
