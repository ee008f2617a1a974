#!/bin/sh
# setup.sh WHAT...: installs what is missing, and says so. WHAT: run, demo, test, check, bench, vms.
#
# Debian packages need root; without it, what is missing is listed and the exit status is 77.
set -eu
cd "$(dirname "$0")/.."

# For the npm packages (ssh2 compiles its cryptography) and drover-connect.
packages="gcc g++ make python3 libc6-dev"
for what in "$@"; do
  case $what in
    run) packages="$packages nix-bin busybox-static util-linux" ;;
    demo) packages="$packages ca-certificates debian-archive-keyring curl dpkg-dev" ;;
    test) packages="$packages ca-certificates debian-archive-keyring curl dpkg-dev patchelf openssh-client openssh-server procps prometheus qemu-user-static cpio xz-utils zstd e2fsprogs jq kmod shellcheck systemd clang-14 clang-format-14 lld-14 libgnustep-base-dev libobjc-12-dev libblocksruntime-dev" ;;
    vms) packages="$packages ca-certificates debian-archive-keyring curl dpkg-dev patchelf cpio xz-utils zstd" ;;
    check) packages="$packages shellcheck" ;;
    bench) packages="$packages patchelf openssh-client openssh-server" ;;
    *) echo "setup.sh: unknown: $what" >&2; exit 2 ;;
  esac
done

node_major=$(node -p 'process.versions.node.split(".")[0]' 2> /dev/null || echo 0)
if [ "$node_major" -lt 20 ]; then
  echo "drover: Node 20.19 or later is needed; found: $(node --version 2> /dev/null || echo none)" >&2
  exit 69
fi

# In a subshell: a command that is there in some other way, such as through Nix, will do as well.
is_there() {
  case $1 in
    gcc | g++ | make | python3 | curl | jq | patchelf | prometheus | shellcheck) command -v "$1" > /dev/null ;;
    nix-bin) command -v nix-daemon > /dev/null ;;
    util-linux) command -v nsenter > /dev/null && command -v setpriv > /dev/null ;;
    openssh-client) command -v ssh > /dev/null ;;
    openssh-server) [ -x /usr/sbin/sshd ] ;;
    procps) command -v pgrep > /dev/null ;;
    *) dpkg-query -W -f '${Status}\n' "$1" 2> /dev/null | grep -q ' installed$' ;;
  esac
}

missing=
for package in $packages; do
  is_there "$package" || missing="$missing $package"
done
if [ -n "$missing" ]; then
  if ! command -v apt-get > /dev/null; then
    echo "drover: these are missing, and there is no apt-get to install them with:$missing" >&2
    exit 69
  fi
  if [ "$(id -u)" != 0 ]; then
    echo "drover: these Debian packages are missing, and only root can install them:$missing" >&2
    echo "  sudo apt-get install --no-install-recommends$missing" >&2
    exit 77
  fi
  echo "drover: installing Debian packages:$missing" >&2
  log=$(mktemp)
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086 # a list of words
  if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } > "$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "drover: apt-get failed; its whole output: $log" >&2
    exit 69
  fi
  rm -f "$log"
fi

# node_modules/.package-lock.json is written last by npm, so it tells what was installed, and whether all of it was.
if [ -z "$(find node_modules/.package-lock.json -newer package-lock.json 2> /dev/null)" ]; then
  echo "drover: installing npm packages" >&2
  npm ci --no-audit --no-fund >&2
  touch node_modules/.package-lock.json
fi
case " $* " in *" test "*) sh scripts/get-darwin-headers.sh .cache/darwin-headers ;; esac
newest=$(find src connect tsconfig.json tsconfig.build.json scripts/build.sh -type f -newer dist/drover-connect 2> /dev/null | head -n 1 || true)
if ! [ -x dist/drover-connect ] || [ -n "$newest" ]; then
  sh scripts/build.sh
fi
case " $* " in *" demo "*) node_modules/.bin/tsc -p demo/tsconfig.json ;; esac
