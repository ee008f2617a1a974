#!/bin/sh
# sdk.sh [DIRECTORY]: vz-helper/sdk against public metadata that are generated from Apple's SDK: the bindings of
# madsmtm/objc2, at one commit. DIRECTORY: a checkout of madsmtm/objc2-generated, in place of one that is fetched.
set -eu
cd "$(dirname "$0")/../.."
commit=fff28a8e2889d32c2a832672a94eeff42cd6c6d2
if [ $# = 0 ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  git -C "$work" init -q
  git -C "$work" fetch -q --depth 1 https://github.com/madsmtm/objc2-generated "$commit"
  git -C "$work" checkout -q FETCH_HEAD
  set -- "$work"
fi
node scripts/check-sdk.mjs "$1"
