#!/bin/sh
# systemd.sh DIR DROVER: becomes process 1 of namespaces of its own, where systemd runs the units in DIR/units as far as
# DIR/units/test.target wants them, on a copy of the host's root that is thrown away. DIR/etc is put into its /etc.
# DIR/console is what systemd says. The checkout DROVER is installed there as README.md has it.
#
# To be started in fresh mount, pid, uts, ipc and cgroup namespaces.
set -eu
dir=$1 drover=$2
new=$dir/root

mount -t tmpfs tmpfs "$dir/scratch"
mkdir "$dir/scratch/upper" "$dir/scratch/work"
mount -t overlay -o "lowerdir=/,upperdir=$dir/scratch/upper,workdir=$dir/scratch/work" overlay "$new"
mount -t proc proc "$new/proc"
mount -t sysfs sysfs "$new/sys"
mount -t cgroup2 cgroup2 "$new/sys/fs/cgroup"
mount -t tmpfs tmpfs "$new/run"
# An empty store: overlays can be stacked twice, and the host's root may be one already.
mkdir -p "$new/nix"
mount -t tmpfs tmpfs "$new/nix"
mount --rbind /dev "$new/dev"
: > "$dir/console"
mount --bind "$dir/console" "$new/dev/console"

# The host's own units must not be started.
for units in etc/systemd/system lib/systemd/system usr/lib/systemd/system; do
  rm -rf "$new/$units"/*.wants "$new/$units-generators"
done
cp -R "$dir/etc/." "$new/etc/"
mkdir -p "$new/etc/systemd/system"
cp "$dir/units/"* "$new/etc/systemd/system/"
mkdir -p "$new/opt/drover"
mount --bind "$drover" "$new/opt/drover"
ln -sf /opt/drover/dist/main.js "$new/usr/local/bin/drover"

cd "$new"
mkdir -p old
pivot_root . old
umount -l /old
exec env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin container=test \
  /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=0 < /dev/null
