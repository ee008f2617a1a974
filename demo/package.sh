# shellcheck shell=bash disable=SC2154
# Builder of every package, run by the toolchain's bash: unpacks $source, sets up flags for $dependencies, and
# evaluates $build in the source tree. Given by packages.nix: those, $toolchain, $extraCFlags, $out.
set -eu -o pipefail

export PATH=$toolchain/bin
export HOME=$PWD LC_ALL=C SOURCE_DATE_EPOCH=1 TZ=UTC
export SHELL=$toolchain/bin/sh CONFIG_SHELL=$toolchain/bin/sh
export CC=gcc CFLAGS="-O0 -pipe $extraCFlags" CPPFLAGS='' LDFLAGS="-Wl,-rpath,$out/lib"
for dependency in $dependencies; do
  [ ! -d "$dependency/bin" ] || PATH=$dependency/bin:$PATH
  [ ! -d "$dependency/include" ] || CPPFLAGS+=" -I$dependency/include"
  [ ! -d "$dependency/lib" ] || LDFLAGS+=" -L$dependency/lib -Wl,-rpath,$dependency/lib"
done

jobs=${NIX_BUILD_CORES:-1}
[ "$jobs" -gt 0 ] || jobs=$(nproc)
export MAKEFLAGS=-j$jobs

configure() {
  sh ./configure --prefix="$out" "$@" || { cat config.log; return 1; }
}

# objects FILE.c...: compile each to FILE.o, as many at once as make would run
objects() {
  # shellcheck disable=SC2016 # for the inner shell, where flags are words
  printf '%s\n' "$@" | xargs -P "$jobs" -I FILE sh -c 'echo "cc $1" && gcc $CPPFLAGS $CFLAGS -c "$1" -o "${1%.c}.o"' cc FILE
}

echo "unpacking $source"
mkdir source
tar -xf "$source" -C source --strip-components=1 --no-same-owner
cd source

# no /bin/sh here; times stay as they are, or makefiles would regenerate what was shipped
{ find . -type f -perm -100 -exec grep -lE -m 1 '^#! ?/bin/(ba)?sh' {} + || true; } | while read -r script; do
  touch -r "$script" ../time
  sed -i -E "1s,^#! ?/bin/(ba)?sh,#!$toolchain/bin/bash," "$script"
  touch -r ../time "$script"
done

eval "$build"

rm -rf "$out"/share/{doc,info,man} "$out/man" "$out"/lib/*.la
# scripts would keep the whole toolchain among what the package needs at run time
for program in "$out"/bin/*; do
  [ -f "$program" ] || continue
  [ "$(head -c 2 "$program" | tr -d '\0')" != '#!' ] || rm "$program"
done
[ ! -d "$out/bin" ] || find "$out/bin" -xtype l -delete
echo "installed:"
find "$out" -type f | sort | sed -n '1,40p'
