#!/bin/sh
# mac-helper.sh: vz-helper by Apple's clang against Apple's SDK, signed; and what it finds out about this Mac.
set -eu
cd "$(dirname "$0")/../../vz-helper"
out=$(mktemp -d)/vz-helper
make OUT="$out" CFLAGS='-O2 -Wall -Wextra -Werror -Wunguarded-availability-new' sign
codesign --verify --strict --verbose=2 "$out"
codesign --display --entitlements - "$out" | grep com.apple.security.virtualization
answer=$( (echo '{"id":1,"op":"hello","protocol":1}'; sleep 2) | "$out")
echo "$answer"
echo "$answer" | grep -q '"entitled":true'
