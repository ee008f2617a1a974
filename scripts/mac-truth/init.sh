#!/bin/busybox sh
# shellcheck shell=dash
# Process 1 of mac-truth's guest: the whole guest is its initrd (image.sh).
export PATH=/usr/bin TRUTH_RUN=/run TRUTH_MACHINE=/truth/machine.sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2> /dev/null
exec > /dev/console 2>&1 < /dev/null
uptime() { read -r seconds _ < /proc/uptime; echo "truth: $1 ($seconds s)"; }
uptime "the kernel is up"
while read -r module; do insmod "/lib/modules/$module.ko"; done < /lib/modules/list
mount -t tmpfs tmpfs /run
mkdir -p /run/share
# shellcheck source=/dev/null
if mount -t virtiofs -o ro store /run/share; then . /truth/mounts.sh; else echo "truth: no share"; fi
uptime "the mounts are done"
exec truth-guest serve vsock /truth/guest.sh
