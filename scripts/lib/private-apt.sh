# shellcheck shell=bash
#
# A private apt: one Debian suite, an empty package database, separate lists. The host is not changed, but
# mirror, proxy and credentials come from the host's apt configuration. For sourcing by bash scripts.

# need TOOL PACKAGE: stop, and say what to install, unless TOOL is there.
need() {
  command -v "$1" >/dev/null && return
  echo "$0: $1 is missing; install it with: apt-get install $2" >&2
  exit 1
}

APT_HELPER=/usr/lib/apt/apt-helper
APT_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

private_apt_check() {
  need apt-get apt
  need dpkg dpkg
  need dpkg-deb dpkg
  need sha256sum coreutils
  [ -x "$APT_HELPER" ] || need apt-helper apt
  [ -r "$APT_KEYRING" ] || need debian-archive-keyring debian-archive-keyring
}

# begin_result DIRECTORY HASH NAME: ends the script where DIRECTORY holds the result of files with this hash. Else it is
# this script's alone until its end, which writes HASH to DIRECTORY/.complete, and `work` is a temporary directory.
begin_result() {
  need flock util-linux
  mkdir -p "$1"
  exec 9>"$1/.lock"
  flock 9
  if [ "$(cat "$1/.complete" 2>/dev/null)" = "$2" ]; then
    echo "the $3 is complete in $1"
    exit 0
  fi
  rm -f "$1/.complete"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
}

# The mirror of the Debian archive that this machine already uses.
debian_mirror() {
  if [ -n "${DEBIAN_MIRROR:-}" ]; then
    echo "$DEBIAN_MIRROR"
    return
  fi
  local mirror format
  # shellcheck disable=SC2016 # apt expands it
  format='$(REPO_URI)'
  mirror=$(apt-get indextargets --format "$format" 'Origin: Debian' 'Label: Debian' | sed -n 1p)
  # before the first `apt-get update` apt knows addresses, but no origins
  [ -n "$mirror" ] || mirror=$(apt-get indextargets --format "$format" | sed -nE '\#/debian/?$#{p;q}')
  if [ -z "$mirror" ]; then
    echo "$0: apt has no source for Debian's archive; set DEBIAN_MIRROR to its address" >&2
    exit 1
  fi
  echo "$mirror"
}

# require_archive MIRROR SUITE DIRECTORY: stop at once where there is no network; apt would try again for most of a
# minute.
require_archive() {
  local -a quick=(-o Acquire::Retries=0 -o Acquire::http::Timeout=10 -o Acquire::https::Timeout=10)
  "$APT_HELPER" "${quick[@]}" -qq download-file "$1/dists/$2/InRelease" "$3/InRelease" >/dev/null 2>&1 && return
  echo "$0: Debian's archive cannot be reached: $1" >&2
  echo "Check the network and apt's proxy settings, or set DEBIAN_MIRROR to the address of another mirror." >&2
  exit 1
}

# private_apt_setup STATE SUITE [with-sources]: SUITE's package lists, kept in the directory STATE.
# PRIVATE_APT_ARCHITECTURE: of the packages, in Debian's words; default: this machine's.
private_apt_setup() {
  local state=$1 suite=$2 sources=${3:-} mirror
  mirror=$(debian_mirror)
  mkdir -p "$state"/{preferences.d,lists/partial,archives/partial}
  require_archive "${mirror%/}" "$suite" "$state"
  : >"$state/status"
  {
    echo "deb [signed-by=$APT_KEYRING target=Packages] $mirror $suite main"
    [ -z "$sources" ] || echo "deb-src [signed-by=$APT_KEYRING target=Sources] $mirror $suite main"
  } >"$state/sources.list"
  # the #clear lines keep the host's hooks and foreign architectures out
  cat >"$state/apt.conf" <<EOF
#clear APT::Update;
#clear DPkg;
#clear APT::Architectures;
APT::Architecture "${PRIVATE_APT_ARCHITECTURE:-$(dpkg --print-architecture)}";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
Dir::Cache "$state";
Dir::Cache::archives "$state/archives";
Dir::Etc::sourcelist "$state/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "$state/preferences.d";
Dir::State "$state";
Dir::State::lists "$state/lists";
Dir::State::status "$state/status";
EOF
  PRIVATE_APT_CONF=$state/apt.conf
  apt-get -c "$PRIVATE_APT_CONF" -qq update
}

private_apt() { apt-get -c "$PRIVATE_APT_CONF" -qq "$@"; }
private_apt_cache() { apt-cache -c "$PRIVATE_APT_CONF" "$@"; }

# Reads apt's --print-uris on stdin, writes lines of: URI FILE SIZE SHA256:HASH
uris() { sed -nE "s/^'([^']+)' ([^ ]+) ([0-9]+) (SHA256:[0-9a-f]+).*/\1 \2 \3 \4/p"; }

# private_apt_download: reads lines of `URI TARGET HASH`, downloads them at once; apt checks the hashes.
private_apt_download() {
  local -a wanted
  mapfile -t wanted < <(tr ' ' '\n')
  [ ${#wanted[@]} -eq 0 ] || "$APT_HELPER" -c "$PRIVATE_APT_CONF" -qq download-file "${wanted[@]}"
}

# The libraries that packages depend on, directly.
libraries_of() {
  private_apt_cache depends --important "$@" |
    sed -nE 's/^ [ |](Pre)?Depends: (lib[^ ]+|zlib1g)$/\2/p' | grep -v -- '-perl$' | sort -u
}

# private_apt_unpack STATE DIRECTORY PACKAGE...: unpacks packages with the libraries that they need, into DIRECTORY.
# Only libraries are followed: what packages need besides (perl, tools to add users) serves their scripts, which do not
# run.
private_apt_unpack() {
  local state=$1 directory=$2 deb
  shift 2
  local -a closure=("$@") frontier=("$@")
  while [ ${#frontier[@]} -gt 0 ]; do
    mapfile -t frontier < <(libraries_of "${frontier[@]}" | grep -vxF -f <(printf '%s\n' "${closure[@]}") || true)
    closure+=("${frontier[@]}")
  done
  private_apt --print-uris download "${closure[@]}" | uris >"$state/uris"
  awk '{ size += $3 } END { printf "%d packages, %.1f MB to download\n", NR, size / 1e6 }' "$state/uris"
  awk -v dir="$state/archives" '{ print $1, dir "/" $2, $4 }' "$state/uris" | private_apt_download
  mkdir -p "$directory"
  for deb in "$state"/archives/*.deb; do
    # not dpkg-deb -x: where the suite links /lib to /usr/lib, packages may still bring the former
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$directory" --keep-directory-symlink --no-same-owner
  done
}
