#!/bin/sh
# guest.sh "VERB [VIEW]": one question of mac-truth, answered on one line by the guest. VIEW is raw (an overlay on the
# share) or exact (an overlay on exact-store). TRUTH_MACHINE defines what a rehearsal does otherwise.
set -u
# shellcheck source=/dev/null
. "$TRUTH_MACHINE"
# shellcheck disable=SC2086 # words
set -- $1
verb=$1 view=$TRUTH_RUN/${2-raw}
small=$view/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-truth
many=$view/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-many
lock=$view/cccccccccccccccccccccccccccccccc-out.lock
case $verb in
  names) (cd "$view" && echo *) ;;
  lock)
    if [ ! -e "$lock" ]; then echo absent
    elif why=$( (: <> "$lock") 2>&1); then echo opened
    else echo "refused: ${why##*: }"; fi
    ;;
  case) if [ -e "$small/version" ]; then echo found; else echo absent; fi ;;
  attributes) stat -c '%u:%g %a' "$small/VERSION" ;;
  xattr) truth-guest xattr "$small/VERSION" ;;
  write) if why=$( (: > "$small/new") 2>&1); then echo written; else echo "refused: ${why##*: }"; fi ;;
  read) find "$many" -type f -exec cat {} + | wc -c ;;
  link) stat -c '%i %h' "$small/VERSION" ;;
  forget) forget && echo forgotten ;;
  network) network ;;
  end) end "$2" ;;
  *) echo "unknown: $verb" ;;
esac
