#!/bin/sh
# build.sh [--if-changed]: builds Drover into dist/: the TypeScript, drover-connect, which Nix starts for each
# connection, drover-hook, a build hook for clients, the addon native.node and, on Linux, drover-namespace, which makes
# guests of namespaces. With --if-changed it exits at once where dist/ is newer than its sources.
set -eu
cd "$(dirname "$0")/.."
if [ "${1:-}" = --if-changed ] && [ -x dist/drover-connect ]; then
  changed=$(find src connect namespace tsconfig.json tsconfig.build.json scripts/build.sh -type f -newer dist/drover-connect)
  [ -n "$changed" ] || exit 0
fi
cc=${CC:-cc}
if ! command -v "$cc" > /dev/null; then
  echo "drover: a C compiler is needed to build drover-connect, native.node and drover-namespace (on Debian: apt-get install gcc libc6-dev)" >&2
  exit 1
fi
# Built in a directory of its own and moved into place, so that programs that run from dist always find it complete.
new=dist.new
rm -rf "$new" dist.old
node_modules/.bin/tsc -p tsconfig.build.json --outDir "$new"
chmod 755 "$new/main.js"
cp -R src/page/assets "$new/page/"
"$cc" -O2 -Wall -Wextra -Werror -pthread -o "$new/drover-connect" connect/drover-connect.c
"$cc" -O2 -Wall -Wextra -Werror -o "$new/drover-hook" connect/drover-hook.c
shared=-shared
# On macOS, Node's own functions are found when the addon is loaded.
[ "$(uname)" != Darwin ] || shared='-bundle -undefined dynamic_lookup'
# shellcheck disable=SC2086 # two words
"$cc" -O2 -Wall -Wextra -Werror -fPIC -fvisibility=default $shared -o "$new/native.node" connect/drover-native.c
[ "$(uname)" != Linux ] || "$cc" -O2 -Wall -Wextra -Werror -o "$new/drover-namespace" namespace/*.c
[ ! -e dist ] || mv dist dist.old
mv "$new" dist
rm -rf dist.old
