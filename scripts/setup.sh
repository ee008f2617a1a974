#!/bin/sh
# setup.sh [WORD...]: installs missing packages, and reports them. WORD: npm, run, demo, check, bench, vms, kernel, or
# a requirement of tests (test/support/requirements.ts). The npm packages are always installed; Drover is
# built if one of the words needs it.
#
# Debian packages need root; without it, the missing ones are listed and the exit status is 77.
set -eu
cd "$(dirname "$0")/.."

# ssh2 compiles its cryptography, and drover-connect is a C program.
compiler="gcc g++ make python3 libc6-dev"
# scripts/lib/private-apt.sh
archive="ca-certificates debian-archive-keyring curl dpkg-dev patchelf"
packages=
is_built=
for word in "$@"; do
  case $word in
    npm | root | loop | memory-cgroup) ;;
    dist) is_built=1 packages="$packages $compiler" ;;
    run) is_built=1 packages="$packages $compiler nix-bin busybox-static sqlite3 util-linux slirp4netns" ;;
    demo) is_built=1 packages="$packages $archive" ;;
    bench) is_built=1 packages="$packages patchelf openssh-client openssh-server" ;;
    check) packages="$packages shellcheck" ;;
    vms) packages="$packages $archive clang-14 cpio lld-14 xz-utils zstd qemu-user-static" ;;
    kernel) packages="$packages $archive bc bison clang-14 flex libelf-dev lld-14 llvm-14 make perl xz-utils" ;;
    nix) packages="$packages nix-bin busybox-static sqlite3 util-linux slirp4netns" ;;
    modern-nix | demo-packages) packages="$packages $archive" ;;
    nixos-units) packages="$packages $archive kmod xz-utils" ;;
    busybox) packages="$packages busybox-static" ;;
    emulation) packages="$packages qemu-user-static" ;;
    systemd) packages="$packages systemd procps" ;;
    ssh) packages="$packages openssh-client" ;;
    ip) packages="$packages iproute2" ;;
    sshd) packages="$packages openssh-server" ;;
    chromium | e2fsprogs | jq | minisign | procps | prometheus | slirp4netns) packages="$packages $word" ;;
    vz-helper) packages="$packages make clang-14 clang-format-14 lld-14 libgnustep-base-dev libobjc-12-dev libblocksruntime-dev" ;;
    *)
      echo "setup.sh: unknown: $word" >&2
      exit 2
      ;;
  esac
done

node_major=$(node -p 'process.versions.node.split(".")[0]' 2> /dev/null || echo 0)
if [ "$node_major" -lt 20 ]; then
  echo "drover: Node 20.19 or later is needed; found: $(node --version 2> /dev/null || echo none)" >&2
  exit 69
fi

# Looks for the commands first: a command installed in another way, such as through Nix, will do.
is_there() {
  case $1 in
    chromium | gcc | g++ | make | python3 | curl | jq | minisign | slirp4netns | patchelf | prometheus | shellcheck) command -v "$1" > /dev/null ;;
    nix-bin) command -v nix-daemon > /dev/null ;;
    util-linux) command -v nsenter > /dev/null && command -v setpriv > /dev/null ;;
    iproute2) command -v ip > /dev/null ;;
    openssh-client) command -v ssh > /dev/null ;;
    openssh-server) [ -x /usr/sbin/sshd ] ;;
    procps) command -v pgrep > /dev/null ;;
    *) dpkg-query -W -f '${Status}\n' "$1" 2> /dev/null | grep -q ' installed$' ;;
  esac
}

missing=
for package in $packages; do
  case " $missing " in *" $package "*) continue ;; esac
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

# npm writes node_modules/.package-lock.json last, so its age tells whether the whole lock file was installed.
if [ -z "$(find node_modules/.package-lock.json -newer package-lock.json 2> /dev/null)" ]; then
  echo "drover: installing npm packages" >&2
  npm ci --no-audit --no-fund >&2
  touch node_modules/.package-lock.json
fi
[ -z "$is_built" ] || sh scripts/build.sh --if-changed
case " $* " in *" demo "* | *" demo-packages "*) node_modules/.bin/tsc -p demo/tsconfig.json ;; esac
