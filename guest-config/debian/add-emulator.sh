#!/usr/bin/env bash
# add-emulator.sh IMAGE ARCHITECTURE EMULATOR DIRECTORY
#
# Makes an image in DIRECTORY out of the one in IMAGE (made by build.sh) whose guests also build for
# ARCHITECTURE (x86_64 or aarch64). Their kernel hands such programs to EMULATOR, one of QEMU's static user
# emulators for the image's architecture. Debian has them in qemu-user-static: /usr/bin/qemu-aarch64-static.
# This is faster than a guest of the other architecture if this one need not be emulated itself, and less
# exact.
set -euo pipefail
umask 022 # modes are part of the image, and QEMU may be another user

if [ $# -ne 4 ]; then
  echo "usage: $0 IMAGE x86_64|aarch64 EMULATOR DIRECTORY" >&2
  exit 2
fi
image=$(realpath -m "$1") architecture=$2 emulator=$3 directory=$(realpath -m "$4")
fail() { echo "$0: $*" >&2 && exit 1; }

# First bytes of programs for these machines, and the mask of significant bits (binfmt_misc in the kernel's
# documentation).
zeros='\x00\x00\x00\x00\x00\x00\x00\x00'
case $architecture in
x86_64) machine='\x3e\x00' ;;
aarch64) machine='\xb7\x00' ;;
*) echo "$0: there are emulators for x86_64 and aarch64, not for $architecture" >&2 && exit 2 ;;
esac
magic="\\x7fELF\\x02\\x01\\x01\\x00$zeros\\x02\\x00$machine"
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'

for tool in cpio readelf; do command -v "$tool" >/dev/null || fail "$tool is missing; on Debian it is in the package ${tool/readelf/binutils}"; done
[ -e "$image/.complete" ] || fail "there is no complete image in $image; make one with build.sh"
machine_of() { readelf -h "$1" 2>/dev/null | sed -nE 's/^ *Machine: *//p'; }
own=$(sed -nE 's/^ *"architecture": "(.*)",/\1/p' "$image/manifest.json")
case $own,$(machine_of "$emulator") in
"$architecture",*) fail "the image in $image is for $architecture itself" ;;
x86_64,*X86-64* | aarch64,AArch64) ;;
*) fail "$emulator is no program for $own, on which it would have to run" ;;
esac
if readelf -l "$emulator" | grep -q 'program interpreter'; then fail "$emulator is not linked statically: builds would not find its libraries"; fi

sum=$(cat "$0" "$image/.complete" "$emulator" | sha256sum | cut -c 1-16)
if [ "$(cat "$directory/.complete" 2>/dev/null)" = "$sum" ]; then
  echo "the image with an emulator for $architecture is complete in $directory"
  exit 0
fi
mkdir -p "$directory"
rm -f "$directory/.complete"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work"/{usr/bin,etc/binfmt.d}
cp "$emulator" "$work/usr/bin/qemu-$architecture"
chmod 755 "$work/usr/bin/qemu-$architecture"
# F: opened when it is registered, and so also there for the sandboxes of builds.
echo ":qemu-$architecture:M::$magic:$mask:/usr/bin/qemu-$architecture:OCF" >"$work/etc/binfmt.d/qemu-$architecture.conf"
find "$work" -exec touch -h -d @1 {} +
# The kernel unpacks one archive after the other.
cp "$image/kernel" "$directory/kernel"
{ cat "$image/initrd" && cd "$work" && find . ! -name . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 --reproducible; } >"$directory/initrd.new"
mv "$directory/initrd.new" "$directory/initrd"

hash=$(sha256sum "$directory/initrd" | cut -d ' ' -f 1)
sed -E \
  -e "s/^( *\"generation\": ).*/\\1\"$sum\",/" \
  -e "s/^( *\"systems\": \\[.*)\\],/\\1, \"$architecture-linux\"],/" \
  -e "s/^( *\"initrd\": ).*/\\1{ \"path\": \"initrd\", \"sha256\": \"$hash\" },/" \
  "$image/manifest.json" >"$directory/manifest.json.new"
mv "$directory/manifest.json.new" "$directory/manifest.json"
echo "$sum" >"$directory/.complete"
du -h "$directory/initrd"
