#!/bin/sh
# ssh-port.sh COMMAND...: runs COMMAND on the virtio-serial port drover.ssh, once the host's first line has
# arrived: until then, reading returns end of file.
set -eu
port=
for candidate in "${DROVER_SYS:-/sys}"/class/virtio-ports/*; do
  read -r label < "$candidate/name" || continue
  [ "$label" != drover.ssh ] || port=${DROVER_DEV:-/dev}/${candidate##*/}
done
if [ -z "$port" ]; then
  echo "drover: there is no port drover.ssh" >> "${DROVER_CONSOLE:-/dev/console}"
  exit 1
fi
{
  until read -r line && [ "$line" = drover ]; do sleep 0.02; done
  exec "$@"
} <> "$port" >&0 # a port can be opened only once
