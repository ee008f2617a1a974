#!/bin/sh
# sign.sh VERSION DIRECTORY: signs SHA256SUMS of a release, together with its version, with the secret key of minisign
# in $DROVER_RELEASE_KEY (the file's text, without a password). scripts/release/pin.sh checks both.
set -eu
version=${1:?usage: sign.sh VERSION DIRECTORY} directory=${2:?}
: "${DROVER_RELEASE_KEY:?the secret key of minisign, as text}"
key=$(mktemp)
trap 'rm -f "$key"' EXIT
echo "$DROVER_RELEASE_KEY" > "$key"
minisign -S -s "$key" -m "$directory/SHA256SUMS" -t "drover guest image $version" < /dev/null
