#!/usr/bin/env bash
# get-virtiofsd.sh PREFIX
#
# virtiofsd of Debian 13 on an older Debian, whose own lacks what the qemu driver needs: unpacked into PREFIX with the
# libraries that it needs, its own C library included. Nothing is installed. Afterwards PREFIX/bin holds virtiofsd.
# PREFIX cannot be moved: remove it and run this again. Exits at once where PREFIX already holds it.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=../demo/private-apt.sh disable=SC1091
. "$(dirname "$0")/../demo/private-apt.sh"

if [ $# -ne 1 ]; then
  echo "usage: $0 PREFIX" >&2
  exit 2
fi
prefix=$(realpath -m "$1")
if "$prefix/bin/virtiofsd" --version 2>/dev/null; then
  exit 0
fi
private_apt_check
need patchelf patchelf

state=$(mktemp -d)
trap 'rm -rf "$state" "$prefix.tmp"' EXIT
rm -rf "$prefix" "$prefix.tmp"
private_apt_setup "$state" trixie
private_apt_unpack "$state" "$prefix.tmp" virtiofsd
rm -rf "$prefix.tmp/usr/share"
libraries=$(cd "$prefix.tmp" && echo usr/lib/*-linux-gnu)
loader=$(cd "$prefix.tmp" && echo usr/lib/*-linux-gnu/ld-linux-*.so.*)
patchelf --set-interpreter "$prefix/$loader" --force-rpath --set-rpath "$prefix/$libraries" "$prefix.tmp/usr/libexec/virtiofsd"
mkdir "$prefix.tmp/bin"
ln -s ../usr/libexec/virtiofsd "$prefix.tmp/bin/virtiofsd"
mv "$prefix.tmp" "$prefix"
"$prefix/bin/virtiofsd" --version
