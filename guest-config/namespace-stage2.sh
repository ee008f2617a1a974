#!/bin/sh
# Process 1 of a namespace guest, from here on inside its own root: runs the nix-daemon and ends with it.
set -eu
export PATH=/usr/bin:/bin:/sbin HOME=/root TMPDIR=/build NIX_SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
cd /

# The end of standard input sends this. The supervisor holds it open as long as it lives.
trap 'exit 0' TERM
exec 4<&0 # a background command's own standard input is /dev/null
{ cat <&4 > /dev/null; kill -TERM 1; } 3>&- &

# The database is made here, once: connections that come at the same time would each make it, and some fail.
nix-store --load-db < /dev/null
nix-daemon 3>&- 4<&- &
daemon=$!
until [ -S /nix/var/nix/daemon-socket/socket ]; do
  kill -0 "$daemon" || exit 1
  sleep 0.005
done
echo ready >&3
exec 3>&-
wait "$daemon"
