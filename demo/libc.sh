# shellcheck shell=sh disable=SC2154
# Builder of `libc`, run by busybox: the shared libraries of $debs, in one directory.
# Given by toolchain.nix: $builder (busybox), $debs, $out.
set -eu

mkdir bin root
"$builder" --install -s bin
export PATH="$PWD/bin"

for deb in $debs; do
  echo "unpacking ${deb##*/}"
  dpkg-deb -x "$deb" root
done

mkdir -p "$out/lib"
for directory in root/lib/*-linux-gnu root/usr/lib/*-linux-gnu; do
  [ ! -d "$directory" ] || find "$directory" -maxdepth 1 -name '*.so*' -exec cp -a {} "$out/lib/" \;
done
ls -l "$out/lib"
