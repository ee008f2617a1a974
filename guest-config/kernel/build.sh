#!/usr/bin/env bash
# build.sh ARCHITECTURE DIRECTORY      ARCHITECTURE: x86_64 or aarch64
#
# Builds the minimal kernel of guests from Debian 13's kernel source, without root and for either architecture on any:
# guest.config and ARCHITECTURE.config beside this script, and nothing else.
#
#   DIRECTORY/kernel      an ELF file (x86_64) or an Image (aarch64), as docs/images.md wants them
#   DIRECTORY/config      its whole configuration
#
# Downloads 150 MB, needs 3 GB of temporary files and some 40 minutes of one processor; exits at once where DIRECTORY
# already holds the kernel of these files.
set -euo pipefail
umask 022

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../../scripts/lib/private-apt.sh disable=SC1091
. "$here/../../scripts/lib/private-apt.sh"

suite=trixie
if [ $# -ne 2 ]; then
  echo "usage: $0 x86_64|aarch64 DIRECTORY" >&2
  exit 2
fi
architecture=$1
directory=$(realpath -m "$2")
case $architecture in
x86_64) arch=x86_64 target=vmlinux ;;
aarch64) arch=arm64 target=Image ;;
*) echo "$0: kernels are built for x86_64 and aarch64, not for $architecture" >&2 && exit 2 ;;
esac

private_apt_check
need bc bc
need bison bison
need flex flex
need make make
need perl perl
need xz xz-utils
# The newest. All of LLVM's programs have its suffix.
clang=$(compgen -c clang | grep -E '^clang(-[0-9]+)?$' | sort -V | tail -n 1) || true
[ -n "$clang" ] || need clang clang
version=${clang#clang}
need "ld.lld$version" "lld$version"
need "llvm-objcopy$version" "llvm$version"
# The kernel's own tools run here; that for x86_64 reads ELF files.
headers='#include <stdio.h>'
[ "$architecture" != x86_64 ] || headers=$(printf '%s\n#include <gelf.h>' "$headers")
if ! "$clang" -fsyntax-only -x c - <<<"$headers" 2>/dev/null; then
  echo "$0: headers are missing; install them with: apt-get install libc6-dev libelf-dev" >&2
  exit 1
fi

files="$architecture $(cat "$0" "$here/guest.config" "$here/$architecture.config" | sha256sum | cut -c 1-16)"
begin_result "$directory" "$files" "$architecture kernel"

echo "reading Debian's package lists ($suite)"
private_apt_setup "$work/apt" "$suite"
package=$(private_apt_cache depends --important linux-source | sed -nE 's/^ *Depends: (linux-source-.*)/\1/p' | sed -n 1p)
private_apt --print-uris download "$package" | uris | awk -v file="$work/source.deb" '{ print $1, file, $4 }' |
  private_apt_download
echo "unpacking $package"
mkdir "$work/source"
dpkg-deb --fsys-tarfile "$work/source.deb" | tar -x -O --wildcards '*.tar.xz' | tar -x -J -C "$work/source" --strip-components=1
rm "$work/source.deb"
cd "$work/source"

# Reproducible, by the same compiler: nothing in it tells when, where or by whom it was built.
export KBUILD_BUILD_TIMESTAMP='Thu Jan 1 00:00:01 UTC 1970' KBUILD_BUILD_USER=drover KBUILD_BUILD_HOST=drover KBUILD_BUILD_VERSION=1
run_make() { make -s -j"$(nproc)" ARCH="$arch" LLVM="${version:-1}" "$@" >"$work/log" 2>&1 9>&- || { tail -n 40 "$work/log" >&2 && exit 1; }; }
cat "$here/guest.config" "$here/$architecture.config" >"$work/fragment"
KCONFIG_ALLCONFIG=$work/fragment run_make allnoconfig
absent=$(grep -E '^CONFIG_' "$work/fragment" | grep -vxF -f .config || true)
if [ -n "$absent" ]; then
  printf '%s: %s does not take these options, or only with others:\n%s\n' "$0" "$package" "$absent" >&2
  exit 1
fi
echo "building Linux $(make -s ARCH="$arch" LLVM="${version:-1}" kernelrelease)"
run_make "$target"
case $architecture in
# The sections that only a debugger or the decompressor reads are most of it.
x86_64) "llvm-objcopy$version" --strip-all vmlinux "$directory/kernel" ;;
aarch64) cp arch/arm64/boot/Image "$directory/kernel" ;;
esac
cp .config "$directory/config"
echo "$files" >"$directory/.complete"
du -h "$directory/kernel"
