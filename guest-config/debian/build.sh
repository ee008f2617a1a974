#!/usr/bin/env bash
# build.sh ARCHITECTURE DIRECTORY [KERNEL]      ARCHITECTURE: x86_64 or aarch64
#
# Makes a guest image for the qemu driver from Debian 13's packages, without root and for either architecture on any:
# kernel, busybox, OpenSSH, Nix, drover-guest and exact-store, which clang compiles. Nothing of a package is run or
# installed.
#
#   DIRECTORY/kernel, DIRECTORY/initrd     to be booted directly; the whole guest is in the initrd
#   DIRECTORY/manifest.json                written last: what drivers read (docs/images.md)
#
# KERNEL is a directory of guest-config/kernel/build.sh, for that kernel in place of Debian's and its modules.
#
# Downloads some 60 MB; exits at once where DIRECTORY already holds the image of these scripts.
set -euo pipefail
umask 022 # modes are part of the image, and QEMU may be another user

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../../scripts/lib/private-apt.sh disable=SC1091
. "$here/../../scripts/lib/private-apt.sh"

suite=trixie
if [ $# -ne 2 ] && [ $# -ne 3 ]; then
  echo "usage: $0 x86_64|aarch64 DIRECTORY [KERNEL]" >&2
  exit 2
fi
architecture=$1
directory=$(realpath -m "$2")
own_kernel=${3:+$(realpath -m "$3")}
case $architecture in
x86_64) PRIVATE_APT_ARCHITECTURE=amd64 systems='"x86_64-linux", "i686-linux"' ;;
aarch64) PRIVATE_APT_ARCHITECTURE=arm64 systems='"aarch64-linux"' ;;
*) echo "$0: images are made for x86_64 and aarch64, not for $architecture" >&2 && exit 2 ;;
esac
if [ -n "$own_kernel" ] && ! grep -qs "^$architecture " "$own_kernel/.complete"; then
  echo "$0: there is no complete kernel for $architecture in $own_kernel; build one with guest-config/kernel/build.sh" >&2
  exit 1
fi
# By when the guest needs them, each after its dependencies: those that Debian does not build into this
# kernel.
declare -A modules=(
  [boot]="virtio_blk overlay rng-core virtio-rng"
  [network]="failover net_failover virtio_net"
  [binfmt]="binfmt_misc"
)
# nix-daemon's protocol by version of Nix; a foreign one cannot be run to ask it.
protocol_of() {
  case $1 in
  2.26.*) echo '{ "major": 1, "minor": 38, "features": [] }' ;;
  *) echo "$0: which protocol Nix $1 speaks has to be entered here" >&2 && exit 1 ;;
  esac
}

private_apt_check
need readelf binutils
need cpio cpio
need xz xz-utils
need zstd zstd
# Any version: it compiles for every architecture.
clang=$(compgen -c clang | grep -E '^clang(-[0-9]+)?$' | sort -V | tail -n 1) || true
[ -n "$clang" ] || need clang clang
need "$(compgen -c ld.lld | sort -V | tail -n 1 | grep . || echo ld.lld)" lld

scripts=$(cat "$0" "$here/init.sh" "$here"/../{drover-guest,take-identity,ssh-port,console-shell}.sh "$here/../sshd_config" "$here"/../exact-store/*.[ch] ${own_kernel:+"$own_kernel/kernel"} | sha256sum | cut -c 1-16)
begin_result "$directory" "$scripts" "$architecture image"
packages=$work/packages
root=$work/root

echo "reading Debian's package lists ($suite, $PRIVATE_APT_ARCHITECTURE)"
private_apt_setup "$work/apt" "$suite"
private_apt_unpack "$work/apt" "$packages" nix-bin openssh-server busybox-static ca-certificates sqlite3 \
  libc6-dev linux-libc-dev libgcc-14-dev
if [ -z "$own_kernel" ]; then
  kernel_package=$(private_apt_cache depends --important "linux-image-cloud-$PRIVATE_APT_ARCHITECTURE" |
    sed -nE 's/^ *Depends: (linux-image-.*)/\1/p' | sed -n 1p)
  rm -f "$work"/apt/archives/*.deb
  private_apt --print-uris download "$kernel_package" | uris | awk -v dir="$work/apt/archives" '{ print $1, dir "/" $2, $4 }' |
    private_apt_download
  for deb in "$work"/apt/archives/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$packages" --no-same-owner; done
fi

libraries=$(echo "$packages"/usr/lib/*-linux-gnu)

# copy_program PATH: into the root, with the libraries that it is linked to
copy_program() {
  local library
  [ ! -e "$root$1" ] || return 0
  mkdir -p "$root${1%/*}"
  cp "$packages$1" "$root$1"
  readelf -d "$packages$1" 2>/dev/null | sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p' >"$work/needed${1//\//-}"
  while read -r library; do
    # Nix of some versions keeps its own libraries beside the others
    if [ -e "$libraries/$library" ]; then copy_program "${libraries#"$packages"}/$library"
    elif [ -e "$packages/usr/lib/nix/$library" ]; then copy_program "/usr/lib/nix/$library"
    else echo "$0: $1 needs $library, which no package has" >&2 && exit 1; fi
  done <"$work/needed${1//\//-}"
}

mkdir -p "$root"/{dev,proc,sys,run,tmp,mnt,root,build,var/empty,nix/store,nix/var,etc/ssh,etc/ssl/certs,usr/bin,usr/sbin,usr/lib,usr/lib64}
chmod 700 "$root/root"
for link in bin sbin lib lib64; do ln -s "usr/$link" "$root/$link"; done
for program in bin/busybox bin/nix bin/sqlite3 sbin/sshd lib/openssh/sshd-session lib/openssh/sshd-auth; do copy_program "/usr/$program"; done
loader=$(readelf -l "$packages/usr/bin/nix" | sed -nE 's/.*program interpreter: (.*)\]/\1/p')
if [ ! -e "$root$loader" ]; then
  mkdir -p "$root/usr${loader%/*}"
  cp -L "$packages/usr$loader" "$root/usr$loader"
fi
# glibc loads these later, to look up host names
for library in libnss_files.so.2 libnss_dns.so.2 libresolv.so.2; do
  [ ! -e "$libraries/$library" ] || copy_program "${libraries#"$packages"}/$library"
done
for name in nix-daemon nix-store; do ln -s nix "$root/usr/bin/$name"; done
# A foreign busybox cannot be asked for its applets.
for name in '[' ash awk basename cat chgrp chmod chown chroot cp cut date df dirname dmesg echo env false find grep head \
  hostname id insmod ip kill ln ls lsmod mkdir mkfifo mkswap mktemp mount mv nproc pidof ps pwd readlink renice rm rmdir sed setsid \
  sh sleep paste sort stat stty swapon sync tail tar test touch tr true umount uname uniq wc xargs; do
  ln -s busybox "$root/usr/bin/$name"
done
ln -s ../bin/busybox "$root/usr/sbin/poweroff"
cp "$here/../drover-guest.sh" "$root/usr/bin/drover-guest"
"$clang" --target="$architecture-linux-gnu" --sysroot="$packages" -fuse-ld=lld -O2 -Wall -Wextra -static -pthread \
  -Wl,--strip-all -o "$root/usr/bin/exact-store" "$here"/../exact-store/*.c
cp "$here/init.sh" "$root/init"
mkdir -p "$root/usr/lib/drover"
cp "$here/../take-identity.sh" "$here/../ssh-port.sh" "$here/../console-shell.sh" "$root/usr/lib/drover/"
chmod 755 "$root/usr/bin/drover-guest" "$root/init"

echo 'root:x:0:0:root:/root:/bin/sh
sshd:x:100:65534::/run/sshd:/bin/false
nobody:x:65534:65534:nobody:/var/empty:/bin/false' >"$root/etc/passwd"
echo 'root:*:20000::::::' >"$root/etc/shadow"
chmod 600 "$root/etc/shadow"
members=
for number in $(seq 128); do
  echo "nixbld$number:x:$((30000 + number)):30000:Nix build user:/var/empty:/bin/false" >>"$root/etc/passwd"
  members=$members,nixbld$number
done
printf 'root:x:0:\ntty:x:5:\nnixbld:x:30000:%s\nnogroup:x:65534:\n' "${members#,}" >"$root/etc/group"
printf 'passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n' >"$root/etc/nsswitch.conf"
for file in services protocols; do [ ! -e "$packages/etc/$file" ] || cp "$packages/etc/$file" "$root/etc/$file"; done
find "$packages/usr/share/ca-certificates" -name '*.crt' -exec cat {} + >"$root/etc/ssl/certs/ca-certificates.crt"
{ cat "$here/../sshd_config" && echo 'SetEnv PATH=/usr/bin:/bin:/sbin'; } >"$root/etc/ssh/sshd_config"

mkdir -p "$root/lib/modules"
for list in "${!modules[@]}"; do
  : >"$root/lib/modules/$list"
  [ -z "$own_kernel" ] || continue # all is built into it
  for module in ${modules[$list]}; do
    file=$(find "$packages/usr/lib/modules" -name "$module.ko*" -o -name "${module//_/-}.ko*" | sed -n 1p)
    [ -n "$file" ] || continue
    case $file in
    *.xz) xz -dc "$file" ;;
    *.zst) zstd -qdc "$file" ;;
    *) cat "$file" ;;
    esac >"$root/lib/modules/$module.ko"
    echo "$module" >>"$root/lib/modules/$list"
  done
done

# Uncompressed, since a guest without hardware acceleration would spend most of a second on decompression. The header of
# an x86 kernel says where the compressed one is (Documentation/arch/x86/boot.rst).
image=$(echo "$packages"/boot/vmlinuz-*)
if [ -n "$own_kernel" ]; then
  cp "$own_kernel/kernel" "$directory/kernel"
elif [ "$architecture" = x86_64 ]; then
  u32() { od -A n -t u4 -j "$1" -N 4 "$image" | tr -d ' '; }
  sectors=$(od -A n -t u1 -j $((0x1f1)) -N 1 "$image" | tr -d ' ')
  start=$(((sectors + 1) * 512 + $(u32 $((0x248)))))
  dd if="$image" of="$work/payload" bs=1M iflag=skip_bytes,count_bytes skip=$start count="$(u32 $((0x24c)))" status=none
  # the size of the kernel follows its zstd frame
  { zstd -qdc "$work/payload" 2>/dev/null || true; } >"$directory/kernel"
  readelf -h "$directory/kernel" >/dev/null 2>&1 ||
    { echo "$0: no ELF kernel in $image" >&2 && exit 1; }
else
  cp "$image" "$directory/kernel"
fi

# Reproducible: nothing in it tells when, where or by whom it was made. The kernel makes /dev/console itself.
find "$root" -exec touch -h -d @1 {} +
(cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 --reproducible) >"$directory/initrd"

nix_version=$(private_apt_cache show nix-bin | sed -nE 's/^Version: ([0-9.]+).*/\1/p' | sed -n 1p)
protocol=$(protocol_of "$nix_version")
sha256() { sha256sum "$1" | cut -d ' ' -f 1; }
kernel_hash=$(sha256 "$directory/kernel") initrd_hash=$(sha256 "$directory/initrd")
# Self-tests of cryptography that no guest uses take a tenth of a second, emulated.
blacklist=crypto_kdf108_init,jent_mod_init
cat >"$directory/manifest.json.new" <<EOF
{
  "generation": "$(echo "$kernel_hash $initrd_hash" | sha256sum | cut -c 1-16)",
  "nixVersion": "$nix_version",
  "protocol": $protocol,
  "systems": [$systems],
  "architecture": "$architecture",
  "kernel": { "path": "kernel", "sha256": "$kernel_hash" },
  "initrd": { "path": "initrd", "sha256": "$initrd_hash" },
  "commandLine": "quiet panic=-1 rdinit=/init cryptomgr.notests audit=0 lsm=capability nowatchdog initcall_blacklist=$blacklist"
}
EOF
mv "$directory/manifest.json.new" "$directory/manifest.json"
echo "$scripts" >"$directory/.complete"
du -h "$directory/kernel" "$directory/initrd"
