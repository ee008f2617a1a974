#!/usr/bin/env bash
# fetch.sh CACHEDIR
#
# Fills CACHEDIR with the inputs of packages.nix (listed in packages.txt): Debian's binary packages for the
# toolchain and upstream sources for the packages, both checked against the hashes in Debian's signed index.
#
#   CACHEDIR/debs/PACKAGE.deb, CACHEDIR/sources/NAME.tar.*
#   CACHEDIR/bootstrap/bin/busybox   the first builder, executable
#   CACHEDIR/manifest.json           written last: versions, sizes, hashes
#
# Downloads only missing or damaged files; needs no network once all of them are there.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../scripts/lib/private-apt.sh disable=SC1091
. "$here/../scripts/lib/private-apt.sh"

if [ $# -ne 1 ]; then
  echo "usage: $0 CACHEDIR" >&2
  exit 2
fi
suite=bookworm
mkdir -p "$1"
cache=$(cd "$1" && pwd)

private_apt_check
need flock util-linux
exec 9>"$cache/.lock"
flock 9

architecture=$(dpkg --print-architecture)
case $architecture in
amd64) multiarch=x86-64-linux-gnu ;;
arm64) multiarch=aarch64-linux-gnu ;;
*) echo "$0: no toolchain is listed for $architecture; amd64 and arm64 are" >&2 && exit 1 ;;
esac
packages=$(sed -e 's/ *#.*//' -e '/^$/d' -e "s/@MULTIARCH@/$multiarch/" "$here/packages.txt")
fingerprint=$({ echo "$suite $architecture" && echo "$packages"; } | sha256sum | cut -d ' ' -f 1)

if [ "$(cat "$cache/.complete" 2>/dev/null)" = "$fingerprint" ] &&
  (cd "$cache" && sha256sum --check --status .sha256sums 2>/dev/null); then
  echo "inputs are complete in $cache ($(du -sh "$cache" | cut -f 1))"
  exit 0
fi
rm -f "$cache/.complete"

state=$(mktemp -d)
trap 'rm -rf "$state"' EXIT
echo "reading Debian's package lists ($suite, $architecture)"
private_apt_setup "$state" "$suite" with-sources

mapfile -t debs < <(echo "$packages" | awk '$1 == "deb" { print $2 }')
mapfile -t sources < <(echo "$packages" | awk '$1 == "source" { print $3 }')
private_apt --print-uris download "${debs[@]}" | uris >"$state/deb-uris"
private_apt --print-uris source --download-only "${sources[@]}" | uris >"$state/source-uris"

# Lines of: URI FILE-IN-CACHE SHA256:HASH SIZE KIND NAME VERSION
{
  awk '{ split($2, part, "_"); gsub("%3a", ":", part[2])
    print $1, "debs/" part[1] ".deb", $4, $3, "deb", part[1], part[2] }' "$state/deb-uris"
  echo "$packages" | awk '
    NR == FNR { if (match($2, /\.orig\.tar\.[a-z0-9]+$/)) uri[substr($2, 1, index($2, "_") - 1)] = $0; next }
    $1 == "source" && $3 in uri {
      split(uri[$3], field, " "); version = file = field[2]
      sub(/^[^_]*_/, "", version); sub(/\.orig\.tar.*/, "", version); sub(/.*\.orig/, "", file)
      print field[1], "sources/" $2 file, field[4], field[3], "source", $2, version
    }' "$state/source-uris" -
} >"$state/plan"
if [ "$(wc -l <"$state/plan")" -ne "$(echo "$packages" | wc -l)" ]; then
  echo "$0: Debian's $suite does not have all of what packages.txt names; it lacks:" >&2
  awk 'NR == FNR { have[$5 " " $6]; next } !(($1 " " $2) in have) { print "  " $2 }' \
    "$state/plan" - <<<"$packages" >&2
  exit 1
fi

# has FILE SHA256:HASH
has() { [ -f "$1" ] && echo "${2#*:} $1" | sha256sum --check --status; }

mkdir -p "$cache"/{debs,sources,bootstrap/bin} "$cache/.partial"
while read -r uri file hash size _ name version; do
  has "$cache/$file" "$hash" && continue
  echo "  $name $version, $((size / 1000)) kB"
  echo "$uri $cache/.partial/$(basename "$file") $hash $file $size" >>"$state/missing"
done <"$state/plan"

if [ -s "$state/missing" ]; then
  awk '{ size += $5 } END { printf "downloading %d files, %.1f MB\n", NR, size / 1e6 }' "$state/missing"
  cut -d ' ' -f 1-3 "$state/missing" | private_apt_download
  while read -r _ partial _ file _; do
    chmod 644 "$partial"
    mv "$partial" "$cache/$file"
  done <"$state/missing"
fi
rm -rf "$cache/.partial"

dpkg-deb --fsys-tarfile "$cache/debs/busybox-static.deb" | tar -xO ./bin/busybox >"$cache/bootstrap/bin/busybox.new"
chmod 755 "$cache/bootstrap/bin/busybox.new"
mv "$cache/bootstrap/bin/busybox.new" "$cache/bootstrap/bin/busybox"

# entries KIND: the plan's lines of that kind as members of a JSON object
entries() {
  awk -v kind="$1" '$5 == kind {
    printf "%s    \"%s\": { \"file\": \"%s\", \"version\": \"%s\", \"size\": %d, \"sha256\": \"%s\" }",
      (n++ ? ",\n" : ""), $6, $2, $7, $4, substr($3, index($3, ":") + 1)
  } END { print "" }' "$state/plan"
}
{
  printf '{\n  "suite": "%s",\n  "architecture": "%s",\n' "$suite" "$architecture"
  printf '  "debs": {\n%s\n  },\n  "sources": {\n%s\n  }\n}\n' "$(entries deb)" "$(entries source)"
} >"$cache/manifest.json.new"
mv "$cache/manifest.json.new" "$cache/manifest.json"
(cd "$cache" && sha256sum manifest.json bootstrap/bin/busybox debs/* sources/* >.sha256sums)
echo "$fingerprint" >"$cache/.complete"
awk '{ size += $4; n[$5]++ } END { printf "%d debs and %d sources, %.1f MB\n", n["deb"], n["source"], size / 1e6 }' \
  "$state/plan"
