#!/bin/sh
# check.sh [OUT [HEADERS]]: checks as much of vz-helper as Linux without an Apple SDK can, and leaves
# `vz-helper` in OUT (by default .cache/vz-helper): the same source built for Linux against the double, which
# the tests drive. Does nothing if OUT is newer than all of its inputs.
#
# Takes Debian's clang-14, clang-format-14, lld-14, libgnustep-base-dev, libobjc-12-dev and
# libblocksruntime-dev, and in HEADERS (by default .cache/darwin-headers) the output of
# scripts/get-darwin-headers.sh; scripts/setup.sh provides both.
set -eu
cd "$(dirname "$0")"
out=${1:-../.cache/vz-helper}
headers=${2:-../.cache/darwin-headers}
gcc=$(dirname /usr/lib/gcc/*-linux-gnu/12/libgcc.a)
mkdir -p "$out"
out=$(cd "$out" && pwd)

# Jest runs several files at once; one of them builds.
exec 9> "$out/lock"
flock 9
if [ -e "$out/done" ] && [ -z "$(find . -newer "$out/done" -type f)" ]; then exit 0; fi
rm -f "$out/done"
if [ ! -e "$headers/libSystem.tbd" ]; then
  echo "check.sh: Darwin's headers are not in $headers: run npm test" >&2
  exit 69
fi

clang-format-14 --dry-run --Werror src/*.[mhc] double/*.[mhc] # to mend: clang-format-14 -i

strict="-Wall -Wextra -Werror"

# 1. Types, and what is only there in later versions of macOS, for both architectures; then the static analyser.
darwin="-fobjc-arc -fblocks -nostdlibinc -isystem $headers/include -I sdk/foundation -I sdk/frameworks"
for target in arm64-apple-macos13 x86_64-apple-macos13; do
  # shellcheck disable=SC2086 # lists of words, here and below
  clang-14 -fsyntax-only -target $target $strict -Wunguarded-availability-new $darwin src/*.m src/*.c
done
for source in src/*.c src/*.m; do
  # shellcheck disable=SC2086
  findings=$(clang-14 --analyze -Xanalyzer -analyzer-output=text -target arm64-apple-macos13 $darwin "$source" -o /dev/null 2>&1)
  [ -z "$findings" ] || { echo "$findings" >&2; exit 1; }
done

# 2. A Mach-O program for Apple silicon, by the lines of the Makefile. Nothing here can run it.
mkdir -p "$out/lib"
sed 's/arm64e-\(macos\|maccatalyst\)/arm64-\1/g' "$headers/libSystem.tbd" > "$out/lib/libSystem.tbd"
cp sdk/tbd/libobjc.tbd "$out/lib/"
clang-14 -c -target arm64-apple-macos13 sdk/availability.c -o "$out/availability.o"
make --silent --always-make CC=clang-14 TARGET="-target arm64-apple-macos13" OUT="$out/vz-helper.macho" \
  CFLAGS="-O2 $strict -Wunguarded-availability-new $darwin" \
  LDFLAGS="-mlinker-version=609 --ld-path=$(command -v ld64.lld-14) -F sdk/tbd -L $out/lib $out/availability.o"

# 3. The same source for Linux, with GNUstep and the double. BlocksRuntime must come before GNUstep.
mkdir -p "$out/include"
ln -sfn "$gcc/include/objc" "$out/include/objc"
gnustep="-D_GNU_SOURCE -DGNUSTEP -DGNUSTEP_BASE_LIBRARY=1 -DGNU_RUNTIME=1 -D_NATIVE_OBJC_EXCEPTIONS
  -fexceptions -fobjc-exceptions -pthread -fobjc-runtime=gcc -fconstant-string-class=NSConstantString -fblocks
  -isystem $out/include -isystem double/compat -isystem /usr/include/GNUstep -I sdk/frameworks -include double/linux.h"
# Apple silicon is what is doubled. Without ARC, what ARC would do is not warned of.
mkdir -p "$out/src"
for source in src/*.[mhc]; do
  # @available would always be true, and a half-close would reach the guest.
  sed 's/@available(macOS \([0-9]*\)\.[0-9]*, \*)/double_available(\1)/; s/\bshutdown(/double_shutdown(/' "$source" > "$out/$source"
done
# shellcheck disable=SC2086
clang-14 -O2 -g $strict -D__arm64__ -Dmain=vz_helper_main $gnustep -I src "$out"/src/*.m double/*.m "$out"/src/*.c double/*.c \
  -o "$out/vz-helper" -L "$gcc" -lBlocksRuntime -lgnustep-base -lobjc
touch "$out/done"
