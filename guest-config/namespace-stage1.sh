#!/bin/sh
# Process 1 of a namespace guest, started in fresh mount, pid, ipc and uts namespaces (and net, for network=none).
#
#   namespace-stage1 IMAGE DIR STORE SCRATCH_BYTES NETWORK NAME
#
# IMAGE: the guest's root, shared read-only by all guests. DIR: this guest's folder on the host, with root/ to mount on.
# STORE: the host's store, the lower layer. Descriptor 3: reports "pid N" (as the host sees it), then "ready".
# Standard input: held open by the supervisor; the guest ends when it does. Everything else goes to the console log.
set -eu
umask 022
image=$1 dir=$2 store=$3 scratch_bytes=$4 network=$5 name=$6

# /proc is still the host's, so this is the pid there.
read -r pid _ < /proc/self/stat
echo "pid $pid" >&3

root=$dir/root
mount -o bind "$image" "$root"
mount -o remount,bind,ro,nosuid,nodev "$root"

# One size-bounded scratch holds everything that is written: upper layer, database, build directories, /tmp.
scratch=$root/run
mount -t tmpfs -o "size=$scratch_bytes,mode=0755,nodev,nosuid" "drover-$name" "$scratch"
mkdir -p "$scratch/upper" "$scratch/work" "$scratch/nix-var" "$scratch/build" "$scratch/tmp" "$scratch/etc"
chown 0:1900000000 "$scratch/upper" # nixbld in the image
chmod 1775 "$scratch/upper"
chmod 1777 "$scratch/tmp"
mount -t overlay -o "lowerdir=$store,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$root/nix/store"
mount -o bind "$scratch/nix-var" "$root/nix/var"
mount -o bind "$scratch/build" "$root/build"
# An image made from programs under /tmp keeps them there.
for entry in "$root"/tmp/*; do
  [ -d "$entry" ] || continue
  mkdir "$scratch/tmp/${entry##*/}"
  mount -o bind "$entry" "$scratch/tmp/${entry##*/}"
done
mount -o rbind "$scratch/tmp" "$root/tmp"

cp -R "$root/etc/." "$dir/etc/." "$scratch/etc/"
for file in resolv.conf hosts; do
  [ ! -r "/etc/$file" ] || cat "/etc/$file" > "$scratch/etc/$file"
done
chmod -R a+rX,go-w "$scratch/etc"
mount -o bind "$scratch/etc" "$root/etc"
mount -o remount,bind,ro "$root/etc"

mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o mode=0755,size=64k,nosuid,noexec dev "$root/dev"
for node in null zero full random urandom tty; do
  : > "$root/dev/$node"
  mount -o bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
mount -o bind "$scratch/tmp" "$root/dev/shm"
mount -o remount,bind,ro,nosuid,noexec "$root/dev"

hostname "$name"
[ "$network" = host ] || ifconfig lo 127.0.0.1 up

# The old root lands on top of the new one; detached, nothing of the host's root is left in here.
cd "$root"
pivot_root . .
umount -l .
exec chroot . /sbin/drover-init
