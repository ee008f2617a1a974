#!/bin/sh
# Builds Drover into dist/: the TypeScript, and drover-connect, which Nix starts for each connection.
set -eu
cd "$(dirname "$0")/.."
cc=${CC:-cc}
if ! command -v "$cc" > /dev/null; then
  echo "drover: a C compiler is needed to build drover-connect (on Debian: apt-get install gcc libc6-dev)" >&2
  exit 1
fi
rm -rf dist
node_modules/.bin/tsc -p tsconfig.build.json
chmod 755 dist/main.js
"$cc" -O2 -Wall -Wextra -Werror -pthread -o dist/drover-connect connect/drover-connect.c
