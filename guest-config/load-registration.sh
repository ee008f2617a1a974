#!/bin/sh
# load-registration.sh: makes the paths valid that are listed, in the text form of `nix-store --dump-db`, in the file
# that the kernel's parameter drover.registration names. Makes Nix's database, too.
set -eu
cmdline=$(cat "${DROVER_PROC:-/proc}/cmdline")
registration=
for word in $cmdline; do
  case $word in drover.registration=*) registration=${word#*=} ;; esac
done
if [ -z "$registration" ]; then
  echo "drover: the kernel's command line has no drover.registration" >> "${DROVER_CONSOLE:-/dev/console}"
  exit 1
fi
nix-store --load-db < "$registration"
