#!/bin/sh
# mac-truth.sh IMAGE [OPTION...]: how this Mac's Virtualization.framework behaves where Drover relies on it, in a
# table and in mac-truth.json. It takes 15 minutes, a Mac with Apple's command line tools (`xcode-select --install`)
# and Node 20; it writes only below the temporary directory, and needs no root (without it, no file of another user
# is looked at).
#
# IMAGE is a directory with the guest's kernel and initrd, as scripts/mac-truth/image.sh makes it on Linux; the
# workflow "Mac" keeps those that it made, one for each architecture. Options: --files N (100000 by default), --only
# WORD (probes whose name has it), --sleep (puts the Mac to sleep for a minute), --json FILE. With DROVER_VZ_HELPER,
# that program is asked in place of one that is built and signed here.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
fail() {
  echo "mac-truth: $1" >&2
  exit 69
}
[ $# -gt 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
image=$1
shift
for file in kernel initrd; do [ -r "$image/$file" ] || fail "$image has no $file: see scripts/mac-truth/image.sh"; done
node=$(command -v node) || fail "Node 20 or later is missing: https://nodejs.org, or nix shell nixpkgs#nodejs"
[ "$("$node" -p 'process.versions.node.split(".")[0]')" -ge 20 ] || fail "Node 20 or later is needed; found: $("$node" --version)"
helper=${DROVER_VZ_HELPER-}
if [ -z "$helper" ]; then
  [ "$(uname)" = Darwin ] || fail "this is for a Mac; a rehearsal sets DROVER_VZ_HELPER"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  helper=$work/vz-helper
  make -C "$here/../vz-helper" OUT="$helper" sign
  codesign --verify --strict "$helper"
fi
case " $* " in *" --json"[\ =]*) ;; *) set -- "$@" --json mac-truth.json ;; esac
status=0
"$node" "$here/mac-truth/main.mjs" --helper "$helper" --image "$image" "$@" || status=$?
exit "$status"
