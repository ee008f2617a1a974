#!/bin/sh
# sign.sh DIRECTORY: signs SHA256SUMS of a release, with the secret key of minisign in $DROVER_RELEASE_KEY (the
# file's text, without a password). scripts/release/pin.sh checks it.
set -eu
: "${DROVER_RELEASE_KEY:?the secret key of minisign, as text}"
key=$(mktemp)
trap 'rm -f "$key"' EXIT
echo "$DROVER_RELEASE_KEY" > "$key"
minisign -S -s "$key" -m "$1/SHA256SUMS" -t "drover guest image" < /dev/null
