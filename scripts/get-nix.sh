#!/usr/bin/env bash
# get-nix.sh SUITE PREFIX
#
# A newer Nix (trixie: 2.26, forky: 2.34) on a Debian host that has an older one or none: nix-bin of another
# suite with its libraries, including its C library, unpacked into PREFIX. It is not installed. Afterwards
# PREFIX/bin holds nix, nix-build, nix-daemon and so on. PREFIX cannot be moved: remove it and run this again.
# Exits at once if PREFIX already holds that suite's Nix.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib/private-apt.sh disable=SC1091
. "$(dirname "$0")/lib/private-apt.sh"

if [ $# -ne 2 ]; then
  echo "usage: $0 SUITE PREFIX    for example: $0 forky ~/.cache/nix-forky" >&2
  exit 2
fi
suite=$1
prefix=$(realpath -m "$2")
stamp=$prefix/.get-nix

if [ "$(cat "$stamp" 2>/dev/null)" = "$suite" ] && "$prefix/bin/nix" --version 2>/dev/null; then
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
rm -rf "$new"
state=$(mktemp -d)
trap 'rm -rf "$state" "$new"' EXIT
mkdir "$new"

private_apt_setup "$state" "$suite"

private_apt_unpack "$state" "$new" nix-bin

rm -rf "$new"/usr/share/{bash-completion,doc,fish,info,lintian,locale,man,zsh}

loader=$(cd "$new" && find . -path '*-linux-gnu*/ld-linux-*.so.*' | sed -n 's#^\./##p' | sed -n 1p)
multiarch=$(basename "$(dirname "$loader")")
# older suites keep Nix's own libraries in a directory of their own, and the C library in /lib
libraries() { echo "$1/usr/lib/$multiarch:$1/lib/$multiarch:$1/usr/lib/nix"; }
"$new/$loader" --library-path "$(libraries "$new")" --list "$new/usr/bin/nix" >"$state/libraries" 2>&1 || true
if ! grep -q libc.so.6 "$state/libraries" || grep -q -e 'not found' -e 'cannot open' "$state/libraries"; then
  echo "$0: nix-bin of $suite needs a library that its dependencies do not name:" >&2
  cat "$state/libraries" >&2
  exit 1
fi
patchelf --set-interpreter "$prefix/$loader" --force-rpath --set-rpath "$(libraries "$prefix")" "$new/usr/bin/nix"

mkdir "$new/bin"
for name in "$new"/usr/bin/nix*; do
  ln -s "../usr/bin/$(basename "$name")" "$new/bin/"
done
echo "$suite" >"$new/.get-nix"
rm -rf "$prefix"
mv "$new" "$prefix"
"$prefix/bin/nix" --version
# Debian's newer Nix wants a shell for its sandbox that older suites lack
echo "In nix.conf: sandbox-paths = /bin/sh=/bin/busybox (Debian's busybox-static)"
