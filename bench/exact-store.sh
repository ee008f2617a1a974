# exact-store.sh setup | walk | negatives | compile, STACK TREE COMPILER: in a guest with the host's store shared twice,
# as `nix-store` below exact-store and /nix/store (STACK exact), and as `raw`. Prints lines `MEASURE VALUE`: times in
# seconds, `requests` that the share below has had for a warm compile, `bytes` of memory for `files`.
# shellcheck shell=dash
set -eu
action=$1 stack=$2 tree=$3 compiler=$4
socket=/run/exact-store.sock
tracing=/sys/kernel/tracing
events=$tracing/events/fuse/fuse_request_send
case $stack in
  raw) store=/run/raw share=/run/raw-lower ;;
  *) store=/nix/store share=/run/host ;;
esac

# The larger one of the two processes is the file system; the other one is its guardian.
resident() {
  for pid in $(pidof exact-store); do sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$pid/status"; done | sort -n | tail -n 1
}
# timed MEASURE COMMAND...
timed() {
  measure=$1
  shift
  read -r began _ < /proc/uptime
  "$@" > /dev/null
  read -r ended _ < /proc/uptime
  echo "$measure $(awk "BEGIN { print $ended - $began }")"
}
# Longer than it takes the kernel to tell both file systems what it has forgotten.
cold() {
  sync
  echo 3 > /proc/sys/vm/drop_caches
  sleep 1
}
walk() { ls -lR "$store/$tree"/[0-4]; }
negatives() {
  for directory in "$store/$tree"/[0-4]/*; do
    for name in 0 1 2 3 4 5 6 7 8 9 a b c d e f g h i j; do [ ! -e "$directory/absent-$name" ] || return 1; done
  done
}
compile() {
  cd "$store/$compiler"
  lib/ld.so --library-path lib bin/cc1 -quiet -nostdinc -isystem include/0 -isystem include/1 -isystem include/2 \
    -isystem include/3 unit.c -o /run/bench/unit.s
}
requests() {
  minor=$(awk -v mount="$share" '$5 == mount { split($3, device, ":"); print device[2] }' /proc/self/mountinfo)
  echo 'hist:keys=connection' > "$events/trigger"
  compile
  echo "requests $(sed -n "s/.*connection: *$minor .*hitcount: *\([0-9]*\).*/\1/p" "$events/hist" | grep . || echo 0)"
  echo '!hist:keys=connection' > "$events/trigger"
}

case $action in
  setup)
    mkdir -p /run/raw-lower /run/raw /run/scratch/raw-upper /run/scratch/raw-work /run/bench
    mount -t virtiofs -o ro raw /run/raw-lower
    mount -t overlay -o lowerdir=/run/raw-lower,upperdir=/run/scratch/raw-upper,workdir=/run/scratch/raw-work overlay /run/raw
    mount -t tracefs tracefs "$tracing"
    before=$(resident)
    exact-store list "/run/raw-lower/$tree" "/run/raw-lower/$compiler" | exact-store show "$socket" literal
    echo "bytes $((($(resident) - before) * 1024))"
    echo "files $(exact-store status "$socket" | sed 's/.* files \([0-9]*\) .*/\1/')"
    ;;
  walk)
    cold
    timed walk-cold walk
    timed walk-warm walk
    ;;
  negatives)
    cold
    timed negatives-cold negatives
    ;;
  compile)
    cold
    timed compile-cold compile
    timed compile-warm compile
    # The exact store has made the share forget by then.
    sleep 3
    requests
    ;;
esac
