#!/bin/sh
# demo.sh [--config FILE]: makes a small build in a guest for each system that the running supervisor offers,
# and shows the result. As root, because only root can reach the socket door.
set -eu

config=/etc/drover/drover.yaml # where the modules and bootstrap have it
[ $# -gt 0 ] || [ ! -e "$config" ] || set -- --config "$config"
if ! drover status "$@" > /dev/null 2>&1; then
  echo "demo: no Drover is running here, or you are not root: drover status says" >&2
  drover status "$@" >&2 || true
  exit 69
fi
machine=$(drover machines "$@")
systems=$(echo "$machine" | cut -d ' ' -f 2 | tr ',' ' ')
for system in $systems; do
  echo "--- a build for $system, which this machine leaves to Drover:"
  # Never built before: it contains the time.
  # shellcheck disable=SC2016 # the guest's shell expands it
  nix-build --no-out-link --max-jobs 0 --builders "$machine" \
    --argstr system "$system" --argstr now "$(date +%s)" -E '
      { system, now }:
      derivation {
        name = "drover-demo";
        inherit system now;
        allowSubstitutes = false;
        builder = "/bin/sh";
        args = [ "-c" "read -r _ _ release _ < /proc/version; echo Hello from Linux $release; echo $now > $out" ];
      }'
done
echo "--- drover status:"
drover status "$@"
