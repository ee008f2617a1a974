#!/bin/sh
# boot-failed.sh: says on the console which units have failed and why, and powers off.
set -eu
say() { echo "drover: $*" >> "${DROVER_CONSOLE:-/dev/console}"; }

[ -e "${DROVER_SCRATCH_DISK:-/dev/disk/by-id/virtio-drover-scratch}" ] || say "there is no disk drover-scratch"
systemctl list-units --failed --plain --no-legend | while read -r unit _; do
  # Output of its own processes: systemd would only repeat that it has failed.
  why=$(journalctl --boot --quiet --output cat --lines 1 "_SYSTEMD_UNIT=$unit") || why=
  case $unit in
    sysroot-nix-.share.mount) why="the host does not share its store, where this guest's system is ($why)" ;;
  esac
  say "$unit has failed: ${why:-for no reason that it told}"
done
systemctl poweroff --force --force
