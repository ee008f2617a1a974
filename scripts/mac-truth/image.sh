#!/usr/bin/env bash
# image.sh x86_64|aarch64 DIRECTORY: makes the guest of mac-truth in DIRECTORY, kernel and initrd, from Debian's
# packages, as guest-config/debian/build.sh makes its image: on any Linux with apt, without root.
set -euo pipefail
umask 022
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../lib/private-apt.sh disable=SC1091
. "$here/../lib/private-apt.sh"
architecture=${1:?usage: image.sh x86_64|aarch64 DIRECTORY} directory=${2:?}
case $architecture in
x86_64) PRIVATE_APT_ARCHITECTURE=amd64 ;;
aarch64) PRIVATE_APT_ARCHITECTURE=arm64 ;;
*) echo "$0: unknown architecture: $architecture" >&2 && exit 2 ;;
esac
private_apt_check
need cpio cpio
need xz xz-utils
clang=$(compgen -c clang | grep -E '^clang(-[0-9]+)?$' | sort -V | tail -n 1) || true
[ -n "$clang" ] || need clang clang
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
packages=$work/packages root=$work/root
private_apt_setup "$work/apt" trixie
private_apt_unpack "$work/apt" "$packages" busybox-static libc6-dev linux-libc-dev libgcc-14-dev
kernel=$(private_apt_cache depends --important "linux-image-cloud-$PRIVATE_APT_ARCHITECTURE" |
  sed -nE 's/^ *Depends: (linux-image-.*)/\1/p' | sed -n 1p)
rm -f "$work"/apt/archives/*.deb
private_apt --print-uris download "$kernel" | uris | awk -v dir="$work/apt/archives" '{ print $1, dir "/" $2, $4 }' | private_apt_download
for deb in "$work"/apt/archives/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$packages" --no-same-owner; done

mkdir -p "$root"/{dev,proc,sys,run,truth,usr/bin,lib/modules}
ln -s usr/bin "$root/bin"
cp "$packages/usr/bin/busybox" "$root/usr/bin/"
for name in sh cat echo find grep insmod ip ls mkdir mount poweroff reboot stat tail tr true udhcpc wc; do
  ln -s busybox "$root/usr/bin/$name"
done
compile() {
  "$clang" --target="$architecture-linux-gnu" --sysroot="$packages" -fuse-ld=lld -O2 -Wall -Wextra -static -pthread \
    -Wl,--strip-all -o "$root/usr/bin/$1" "${@:2}"
}
compile truth-guest "$here/guest.c"
compile exact-store "$here"/../../guest-config/exact-store/*.c
cp "$here"/{guest,mounts,machine}.sh "$root/truth/"
cp "$here/init.sh" "$root/init"
chmod 755 "$root/init"

release=$(basename "$packages"/usr/lib/modules/*)
# In the order in which they need each other; those that this kernel has built in are not found, and not needed.
for module in virtio_console fuse virtiofs overlay vsock vmw_vsock_virtio_transport_common vmw_vsock_virtio_transport \
  failover net_failover virtio_net; do
  file=$(find "$packages/usr/lib/modules/$release" -name "$module.ko*" | sed -n 1p)
  [ -n "$file" ] || continue
  case $file in *.xz) xz -dc "$file" ;; *) cat "$file" ;; esac >"$root/lib/modules/$module.ko"
  echo "$module" >>"$root/lib/modules/list"
done
mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
# A bzImage or an Image: what Virtualization.framework boots.
cp "$packages/boot/vmlinuz-$release" "$directory/kernel"
find "$root" -exec touch -h -d @1 {} +
(cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 --reproducible) >"$directory/initrd"
du -h "$directory/kernel" "$directory/initrd"
