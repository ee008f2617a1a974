#!/bin/busybox sh
# shellcheck shell=dash
# Process 1 of the Debian image's guests (build.sh puts it in the initrd as /init). What it must do is the image
# contract: docs/images.md.
set -u
export PATH=/usr/bin:/bin:/sbin HOME=/root

# Shown on the console, and so in the error of a boot that fails.
say() {
  read -r uptime _ < /proc/uptime
  echo "drover: $* ($uptime s)" > /dev/console
}
die() {
  say "$*"
  sync
  poweroff -f
}
# load_modules LIST
load_modules() { while read -r module; do insmod "/lib/modules/$module.ko"; done < "/lib/modules/$1"; }
must() { "$@" || die "failed: $*"; }

if [ -z "${DROVER_STAGE2-}" ]; then
  mount -t proc proc /proc
  mount -t sysfs sysfs /sys
  mount -t devtmpfs devtmpfs /dev 2> /dev/null
  say "kernel is up"
  # The probe of an accelerator needs no more than this.
  grep -q drover.probe /proc/cmdline && poweroff -f
  load_modules boot
  # pivot_root (Nix's sandbox) refuses the kernel's rootfs: an ordinary mount has to cover it.
  mount -o bind / /mnt
  for directory in dev proc sys; do mount -o move "/$directory" "/mnt/$directory"; done
  cd /mnt || die "there is no /mnt"
  mount -o move . /
  export DROVER_STAGE2=1
  exec chroot . /init
fi

must mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/sshd /run/host /run/lower /run/scratch /dev/pts /dev/shm
sh /usr/lib/drover/take-identity.sh /run/drover || poweroff -f # it has said why
scratch_disk=''
for disk in /sys/block/vd*; do
  serial='' # the kernel ends it with no newline
  read -r serial < "$disk/serial"
  [ "$serial" != drover-scratch ] || scratch_disk=/dev/${disk##*/}
done
name=guest scratch_bytes=0 network=none share=none store=raw exact_store=''
# shellcheck disable=SC1091 # written by the driver
. /run/drover/guest.env

# The scratch is a tmpfs; data that does not fit into memory goes to the scratch disk, as swap.
if [ -n "$scratch_disk" ]; then { mkswap "$scratch_disk" > /dev/null && swapon "$scratch_disk"; } & fi
read -r _ memory_kib _ < /proc/meminfo
must mount -t tmpfs -o "size=$scratch_bytes,nr_inodes=$((memory_kib / 2)),mode=0755,nodev,nosuid" "drover-$name" /run/scratch
mkdir -p /run/scratch/upper /run/scratch/work /run/scratch/nix-var/nix /run/scratch/build /run/scratch/tmp
chown 0:30000 /run/scratch/upper
chmod 1775 /run/scratch/upper
chmod 1777 /run/scratch/tmp
mount -o bind /run/scratch/nix-var /nix/var
mount -o bind /run/scratch/build /build
mount -o bind /run/scratch/tmp /tmp
case $share,$store in
virtiofs,exact)
  must mount -t virtiofs -o ro nix-store /run/host
  must exact-store mount /run/host /run/lower /run/exact-store.sock
  exact_store=$(pidof exact-store | tr ' ' '\n' | sort -n | head -n 1) # the other one's guardian
  ;;
virtiofs,*) must mount -t virtiofs -o ro nix-store /run/lower ;;
esac
must mount -t overlay -o lowerdir=/run/lower,upperdir=/run/scratch/upper,workdir=/run/scratch/work overlay /nix/store

# Programs for other machines, where the image has emulators for them (add-emulator.sh).
if [ -d /etc/binfmt.d ]; then
  load_modules binfmt
  must mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
  for rule in /etc/binfmt.d/*; do cat "$rule" > /proc/sys/fs/binfmt_misc/register || die "failed: $rule"; done
fi

mount -t devpts -o ptmxmode=0666,mode=0620,gid=5 devpts /dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
mkdir -p /etc/nix /etc/drover
ln -sf /run/drover/nix.conf /etc/nix/nix.conf
ln -sf /run/drover/manifest.json /etc/drover/manifest.json

# The next steps take most of a boot, and run concurrently. Until this is gone, `hello` waits.
mkfifo /run/drover/booting
exec 9<> /run/drover/booting

# The database is made here, once: connections that come at the same time would each make it, and some fail.
nix-store --load-db < /dev/null 9>&- &
database=$!
NIX_SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt TMPDIR=/build nix-daemon 9>&- &
daemon=$!
# One SSH connection over the port for the whole life of the guest.
sh /usr/lib/drover/ssh-port.sh /usr/sbin/sshd -i -e -f /etc/ssh/sshd_config 2> /dev/console 9>&- &
sshd=$!
# Before builds, so that it answers however busy they are.
renice -n -10 "$sshd" > /dev/null

echo "127.0.0.1 localhost $name" > /etc/hosts
{
  ip link set lo up
  if [ "$network" = host ]; then
    load_modules network
    echo "nameserver 10.0.2.3" > /etc/resolv.conf
    ip link set eth0 up
    ip addr add 10.0.2.15/24 dev eth0
    ip route add default via 10.0.2.2
  fi
} 9>&- &
interfaces=$!

wait "$interfaces"
wait "$database" || die "nix-store has made no database"
until [ -S /nix/var/nix/daemon-socket/socket ]; do
  kill -0 "$daemon" || die "nix-daemon has ended"
  sleep 0.01
done
rm /run/drover/booting
exec 9>&-
say "guest is up"

# Parameters of `drover vm`.
read -r cmdline < /proc/cmdline
for word in $cmdline; do
  case $word in
  drover.share) mkdir /share && must mount -t virtiofs share /share ;;
  drover.console=*)
    read -r console < /sys/class/tty/console/active
    while :; do setsid -c sh /usr/lib/drover/console-shell.sh sh < "/dev/$console" > "/dev/$console" 2>&1; done &
    ;;
  esac
done

# A guest without its daemon or its control connection is unusable. (`wait -n` also reaps orphans.)
# shellcheck disable=SC3045 # busybox has it
while kill -0 "$daemon" && kill -0 "$sshd" && { [ -z "$exact_store" ] || kill -0 "$exact_store"; }; do wait -n; done 2> /dev/null
[ -z "$exact_store" ] || kill -0 "$exact_store" 2> /dev/null || die "exact-store has ended"
kill -0 "$daemon" 2> /dev/null || die "nix-daemon has ended"
die "the SSH connection has ended"
