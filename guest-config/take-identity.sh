#!/bin/sh
# take-identity.sh DIRECTORY: copies the files of the guest's identity (docs/images.md) to DIRECTORY, from the
# disk drover-config if there is one, otherwise from the share drover; and sets its host name.
set -eu
umask 077
directory=$1

die() {
  echo "drover: $*" >> "${DROVER_CONSOLE:-/dev/console}"
  exit 1
}

config_disk=
for disk in "${DROVER_SYS:-/sys}"/block/*; do
  serial=
  [ ! -r "$disk/serial" ] || read -r serial < "$disk/serial" || true # the kernel ends it with no newline
  [ "$serial" != drover-config ] || config_disk=${DROVER_DEV:-/dev}/${disk##*/}
done

mkdir -p "$directory"
if [ -n "$config_disk" ]; then
  tar -xf "$config_disk" -C "$directory" || die "the disk drover-config cannot be read"
else
  mkdir -p "$directory/share"
  mount -t virtiofs -o ro drover "$directory/share" ||
    die "the host has not said who this guest is: there is neither a disk drover-config nor a share drover"
  cp "$directory"/share/* "$directory" || die "the share drover cannot be read"
  umount "$directory/share"
  rmdir "$directory/share"
fi
for file in guest.env nix.conf manifest.json host_key authorized_keys; do
  [ -s "$directory/$file" ] || die "the host has given this guest no $file"
done
# sshd rejects keys that others can read, and VirtioFS reports wrong modes.
chmod 600 "$directory"/*

name=guest
# shellcheck disable=SC1091 # written by the driver
. "$directory/guest.env"
echo "$name" > "${DROVER_PROC:-/proc}/sys/kernel/hostname"
