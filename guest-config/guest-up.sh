#!/bin/sh
# guest-up.sh: says on the console that the guest is up, and how long after its kernel.
set -eu
read -r uptime _ < "${DROVER_PROC:-/proc}/uptime"
echo "drover: guest is up ($uptime s)" >> "${DROVER_CONSOLE:-/dev/console}"
