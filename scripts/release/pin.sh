#!/bin/sh
# pin.sh VERSION URL [PUBLIC-KEY-FILE [OUTPUT]]: makes OUTPUT (nix/release.json) name the release whose files are
# below URL, once minisign has verified with the public key (nix/release.pub) that its SHA256SUMS are those of VERSION
# (the tag): a server cannot give an older release in its place. Users need no minisign: they fetch by the hashes in
# there.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
version=${1:?usage: pin.sh VERSION URL [PUBLIC-KEY-FILE [OUTPUT]]} url=${2:?} key=${3:-$root/nix/release.pub} output=${4:-$root/nix/release.json}
[ -r "$key" ] || { echo "pin: no public key in $key" >&2; exit 69; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for file in SHA256SUMS SHA256SUMS.minisig; do curl -fsSL -o "$work/$file" "$url/$file"; done
signed=$(minisign -V -Q -p "$key" -m "$work/SHA256SUMS") || { echo "pin: $url/SHA256SUMS is not signed by the key in $key; nothing is pinned" >&2; exit 1; }
[ "$signed" = "drover guest image $version" ] || { echo "pin: $url has \"$signed\", not version $version; nothing is pinned" >&2; exit 1; }
# shellcheck disable=SC2016 # JavaScript
node -e '
  const { readFileSync, writeFileSync } = require("fs");
  const [, version, url, sums, output] = process.argv;
  const files = Object.fromEntries(readFileSync(sums, "utf8").trim().split("\n").map((line) => {
    const [, hash, name] = /^([0-9a-f]{64})  ([\w.-]+)$/.exec(line);
    return [name, `sha256-${Buffer.from(hash, "hex").toString("base64")}`];
  }));
  writeFileSync(output, `${JSON.stringify({ version, url, files }, null, 2)}\n`);' "$version" "$url" "$work/SHA256SUMS" "$output"
