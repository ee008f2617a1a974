#!/usr/bin/env bash
# get-systemd.sh DIRECTORY: Debian 13's systemd with everything else that a guest needs, and its kernel with
# the modules for VMs. Unpacked, not installed. Exits at once if DIRECTORY already holds it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../../scripts/lib/private-apt.sh disable=SC1091
. "$here/../../scripts/lib/private-apt.sh"

directory=$(realpath -m "${1:?usage: $0 DIRECTORY}")
stamp=$(sha256sum < "$0")
[ "$(cat "$directory/.complete" 2> /dev/null)" != "$stamp" ] || exit 0
private_apt_check
need depmod kmod
need xz xz-utils
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

private_apt_setup "$work/apt" trixie
private_apt_unpack "$work/apt" "$root" nix-bin openssh-server systemd udev e2fsprogs util-linux mount bash coreutils kmod \
  tar grep mawk findutils sed busybox-static perl-base
kernel=$(private_apt_cache depends --important linux-image-cloud-amd64 | sed -nE 's/^ *Depends: (linux-image-.*)/\1/p' | sed -n 1p)
rm -f "$work"/apt/archives/*.deb
private_apt --print-uris download "$kernel" | uris | awk -v dir="$work/apt/archives" '{ print $1, dir "/" $2, $4 }' |
  private_apt_download
for deb in "$work"/apt/archives/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --no-same-owner; done

for link in bin sbin lib lib64; do ln -s "usr/$link" "$root/$link"; done
rm -rf "$root"/usr/share/{doc,man,locale,info,zoneinfo} "$root"/usr/lib/x86_64-linux-gnu/gconv
release=$(basename "$root"/usr/lib/modules/*)
modules=$root/usr/lib/modules/$release
needed='^(virtio[_-](blk|console|net|rng|pci)|net_failover|failover|overlay|ext4|jbd2|mbcache|crc32c.*|virtiofs|loop|vsock|vsock_loopback|vmw_vsock_virtio.*)\.ko'
find "$modules/kernel" -type f -printf '%f\t%p\n' | awk -F '\t' -v needed="$needed" '$1 !~ needed { print $2 }' | xargs rm -f
find "$modules/kernel" -name '*.xz' -exec xz -d {} +
depmod -b "$root" "$release"
mv "$root/boot/vmlinuz-$release" "$work/kernel"
rm -r "${root:?}/boot"

rm -rf "$directory"
mkdir -p "$directory"
mv "$root" "$work/kernel" "$directory"
echo "$stamp" > "$directory/.complete"
du -sh "$directory"
