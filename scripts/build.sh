#!/bin/sh
# Builds Drover into dist/: the TypeScript, and drover-connect, which Nix starts for each connection.
set -eu
cd "$(dirname "$0")/.."
cc=${CC:-cc}
if ! command -v "$cc" > /dev/null; then
  echo "drover: a C compiler is needed to build drover-connect (on Debian: apt-get install gcc libc6-dev)" >&2
  exit 1
fi
# Built beside, and put in place at the end: what runs from dist is there all the time.
new=dist.new
rm -rf "$new" dist.old
node_modules/.bin/tsc -p tsconfig.build.json --outDir "$new"
chmod 755 "$new/main.js"
"$cc" -O2 -Wall -Wextra -Werror -pthread -o "$new/drover-connect" connect/drover-connect.c
[ ! -e dist ] || mv dist dist.old
mv "$new" dist
rm -rf dist.old
