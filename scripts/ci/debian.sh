#!/bin/sh
# debian.sh PACKAGE...: package lists for scripts/lib/private-apt.sh, and packages, in a container of Debian.
set -eu
apt-get update
[ $# = 0 ] || apt-get install -y --no-install-recommends "$@"
