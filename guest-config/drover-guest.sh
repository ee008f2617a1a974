#!/bin/sh
# drover-guest: the supervisor's commands in a guest, the same file in every kind of guest.
#
#   hello               the image's manifest, as JSON; with `brokenSystems` if the guest cannot run programs of some
#                       systems (/run/drover-broken-systems has their names, one a line), and with `translator` if
#                       something runs those of another one (/run/drover-translator has its name). In a guest
#                       that still boots it waits: /run/drover/booting is a FIFO then, which the guest holds open, and
#                       removes before it closes it
#   register [--again]  make store paths of the lower layer valid here. Standard input: with an exact store, their
#                       listings and a line `registration` (exact-store/control.h); then SQL for Nix's database that
#                       selects 'registered' at its end, and has comments in front: `--p PATH` for each path;
#                       if some are derivations, `--derivations` in the first line, and `--d LINE` for each
#                       line of what `nix-store --load-db` is to read before.
#                       Standard output: the paths that are not in the store, one a line; if there are any, nothing was
#                       registered and the exit status is 3. With --again, some of them were here before, and the
#                       host has removed and recreated them since.
#   stats [SECONDS]     scratch use and uptime, as JSON (bytes, seconds), whether there is a route out, and
#                       how often exact-store had to ask again for a listed file; sets the clock first, as set-clock
#                       does
#   build-usage NAME    what the build of the derivation with that file name (`<hash>-hello.drv`) has used, as JSON
#                       (seconds, bytes): of its control group if Nix has made one, else the sum of its processes and of
#                       those that they have waited for. Nothing if no process of it is found
#   set-clock SECONDS   set the clock to that Unix time, unless it is less than two seconds away
#   keep DIR            keep the directory of a failed build, which Nix has left; standard input: shell that sets the
#                       build's variables
#   drop DIR            remove it
#   enter DIR BUILDER NAME
#                       a shell in it, for a person, as a build user; by the builder, if that is a shell
#   run NETWORK DIR PROGRAM...
#                       run a program in that directory, if there is one; NETWORK: own, host, or none
#   shell               a shell as root, for a person
#
# Exit status: 0 done, 1 failed (why: standard error), 2 wrong usage, 3 see `register`.
set -eu

manifest=${DROVER_MANIFEST:-/etc/drover/manifest.json}
broken_systems=${DROVER_BROKEN_SYSTEMS:-/run/drover-broken-systems}
translator=${DROVER_TRANSLATOR:-/run/drover-translator}
booting=${DROVER_BOOTING:-/run/drover/booting}
# FIFOs of drover-namespace: only the host's root may remount the store of a namespace guest.
forget=${DROVER_FORGET:-/run/drover/forget}
store=${NIX_STORE_DIR:-/nix/store}
database=${NIX_STATE_DIR:-/nix/var/nix}/db/db.sqlite
proc=${DROVER_PROC:-/proc}
cgroups=${DROVER_CGROUPS:-/sys/fs/cgroup}
exact_store=${DROVER_EXACT_STORE:-/run/exact-store.sock} # where the guest has one

fail() {
  echo "drover-guest: $*" >&2
  exit 1
}

usage() {
  echo "usage: drover-guest hello | register [--again] | stats [SECONDS] | build-usage NAME | set-clock SECONDS | keep DIR | drop DIR | enter DIR BUILDER NAME | run NETWORK DIR PROGRAM... | shell" >&2
  exit 2
}

hello() {
  [ ! -p "$booting" ] || cat "$booting" > /dev/null || true # removed meanwhile
  [ -r "$manifest" ] || fail "cannot read $manifest"
  own=
  [ ! -S "$exact_store" ] || own=',"exactStore":true'
  [ ! -s "$broken_systems" ] || own="$own,\"brokenSystems\":[$(sed 's/.*/"&"/' "$broken_systems" | paste -s -d , -)]"
  [ ! -s "$translator" ] || own="$own,\"translator\":\"$(cat "$translator")\""
  [ -n "$own" ] || { cat "$manifest"; return; }
  awk -v own="$own" '
    { text = text $0 "\n" }
    END { sub(/[[:space:]]*}[[:space:]]*$/, "", text); print text own "}" }
  ' "$manifest"
}

register() {
  work=$(mktemp -d) || fail "no room for the registration"
  trap 'rm -rf "$work"' EXIT
  mkfifo "$work/commands" || fail "no room for the registration"
  # It starts now and waits for its input, because starting takes longer than all the rest.
  sqlite3 -batch -bail "file:$database?mode=rw" < "$work/commands" > "$work/said" &
  registers=$!
  exec 3> "$work/commands"
  if [ -S "$exact_store" ]; then tell_exact_store "$@"; else look_for_paths "$@"; fi
  read -r first < "$work/registration" || fail "the registration is empty"
  if [ "$first" = --derivations ]; then
    sed -n 's/^--d //p' "$work/registration" | nix-store --load-db || exit 1
  fi
  echo ".read $work/registration" >&3
  exec 3>&-
  wait $registers || fail "cannot register the paths"
  said=
  read -r said < "$work/said" || :
  [ "$said" = registered ] || fail "the registration was cut off"
}

# Where the store shows what it is told of, nothing has to be looked for.
tell_exact_store() {
  status=0
  exact-store register "$exact_store" "$store" 5 3>&- 5> "$work/registration" || status=$?
  [ $status = 0 ] || exit $status
  [ $# = 0 ] || forget
}

# Leaves the registration in $work, if the store has all of its paths; otherwise prints those that it lacks.
look_for_paths() {
  { tee "$work/registration" && : > "$work/kept"; } | paths | missing || fail "cannot look for the paths"
  [ -e "$work/kept" ] || fail "no room for the registration"
  # overlayfs keeps saying ENOENT for a path that was looked up before the lower layer had it; a remount forgets that.
  if [ $# -gt 0 ] || [ -s "$work/missing" ]; then
    forget "$@"
    paths < "$work/registration" | missing || fail "cannot look for the paths"
  fi
  if [ -s "$work/missing" ]; then
    # The others may disappear and come back before they are requested again.
    forget
    cat "$work/missing"
    exit 3
  fi
}

# Prints the paths of a registration.
paths() {
  exec sed -n 's/^--p //p'
}

# Writes those paths on standard input that do not exist to $work/missing. (As `paths`, it ends its shell,
# which is a subshell in a pipeline.)
missing() {
  # shellcheck disable=SC2016 # the inner shell expands them
  exec xargs sh -c 'for path; do [ -e "$path" ] || [ -L "$path" ] || echo "$path"; done' sh > "$work/missing"
}

# Has the kernel forget what it has looked up in the store.
forget() {
  if [ -d "$forget" ]; then
    read -r _ < "$forget/turn" # one at a time: an answer does not say which question it belongs to
    echo > "$forget/ask"
    read -r answer < "$forget/answer"
    echo > "$forget/turn"
    [ "$answer" = "done" ] || fail "cannot remount $store"
    return
  fi
  # With a source, mount does not look up and repeat the current options, which overlayfs rejects since
  # util-linux 2.39.
  mount -o remount overlay "$store" || fail "cannot remount $store"
  # VirtioFS caches lookups for a second, and would open a file that was removed on the host meanwhile ("stale
  # file handle"): only uncached lookups are sent to the host. (Not in namespaces, where the cache is the
  # host's.)
  if [ "${1-}" = --again ] && grep -q ' virtiofs ' /proc/mounts; then
    echo 2 > /proc/sys/vm/drop_caches || fail "cannot drop what the kernel remembers of $store"
  fi
}

stats() {
  # Blocks of 1 KiB: total, used, available. The store's upper layer, build directories and Nix's database share one
  # scratch.
  df -kP "${DROVER_SCRATCH:-$store}" | awk '
    NR == 2 { printf "{\"scratchTotalBytes\":%.0f,\"scratchUsedBytes\":%.0f,\"scratchFreeBytes\":%.0f,", $2 * 1024, $3 * 1024, $4 * 1024 }'
  # Whether a default route is there, of IPv4 or IPv6: on a Mac, whether DHCP has given a lease.
  routed=$(cat "$proc/net/route" "$proc/net/ipv6_route" 2> /dev/null | awk '
    $2 == "00000000" || ($1 ~ /^0+$/ && $2 == "00" && $NF != "lo") { found = 1 }
    END { print found ? "true" : "false" }')
  # Files that the share lacked for a moment although they are listed.
  retries=0
  [ ! -S "$exact_store" ] || retries=$(exact-store status "$exact_store" | sed -n 's/.* retries \([0-9]*\).*/\1/p')
  # Memory that programs cannot get any more. In a guest of namespaces it is the host's.
  awk '
    $1 == "MemTotal:" { total = $2 }
    $1 == "MemAvailable:" { available = $2 }
    END { printf "\"memoryTotalBytes\":%.0f,\"memoryUsedBytes\":%.0f,", total * 1024, (total - available) * 1024 }' "$proc/meminfo" 2> /dev/null || :
  awk -v routed="$routed" -v retries="${retries:-0}" '
    { printf "\"uptimeSeconds\":%s,\"routed\":%s,\"shareRetries\":%d}\n", $1, routed, retries }' /proc/uptime
}

build_usage() {
  # Nix names the root of a build's sandbox after the derivation.
  pids=$(grep -lF "/$1.chroot" "$proc"/[0-9]*/mountinfo 2> /dev/null) || [ -n "$pids" ] || return 0
  set -- # its directories
  for file in $pids; do set -- "$@" "${file%/mountinfo}"; done
  group=$(awk -F :: '/^0::.*\/nix-build-/ { print $2 }' "$1/cgroup" 2> /dev/null) || group=
  if [ -n "$group" ] && [ -r "$cgroups$group/cpu.stat" ]; then
    set -- "$cgroups$group"
    awk -v peak="$(cat "$1/memory.peak" 2> /dev/null || cat "$1/memory.current" 2> /dev/null)" '
      /^usage_usec / { cpu = $2 / 1000000 }
      { for (i = 2; i <= NF; i++) {
          if (sub(/^rbytes=/, "", $i)) read += $i
          if (sub(/^wbytes=/, "", $i)) written += $i } }
      END { printf "{\"source\":\"cgroup\",\"cpuSeconds\":%.2f,\"memoryBytes\":%.0f,\"readBytes\":%.0f,\"writtenBytes\":%.0f}\n", cpu, peak, read, written }
    ' "$1/cpu.stat" "$([ -r "$1/io.stat" ] && echo "$1/io.stat" || echo /dev/null)"
    return
  fi
  # Clock ticks are hundredths of a second. A process that has ended meanwhile has no files.
  for dir; do cat "$dir/stat" "$dir/status" "$dir/io" 2> /dev/null || true; done | awk '
    /^[0-9]+ \(/ { sub(/^.*\) /, ""); cpu += ($12 + $13 + $14 + $15) / 100 }
    /^VmRSS:/ { memory += $2 * 1024 }
    /^rchar:/ { read += $2 }
    /^wchar:/ { written += $2 }
    END { printf "{\"source\":\"proc\",\"cpuSeconds\":%.2f,\"memoryBytes\":%.0f,\"readBytes\":%.0f,\"writtenBytes\":%.0f}\n", cpu, memory, read, written }'
}

set_clock() {
  case ${1-} in '' | *[!0-9]*) usage ;; esac
  behind=$(($1 - $(date +%s)))
  [ "$behind" -ge -1 ] && [ "$behind" -le 1 ] && return 0
  date -s "@$1" > /dev/null || fail "cannot set the clock"
}

# Directories in /build are Nix's: no build can have made one. Sets $top to the first part of it.
check_kept() {
  top=${1#/build/}
  top=${top%%/*}
  case $1 in "/build/$top" | "/build/$top/build") ;; *) fail "$1 is not the directory of a build" ;; esac
  if [ -z "$top" ] || [ "$top" = .. ] || [ -L "/build/$top" ] || [ -L "$1" ] || [ ! -d "$1" ]; then
    fail "$1 is not the directory of a build"
  fi
}

keep() {
  check_kept "$1"
  mkdir -p /run/drover-kept
  cat > "/run/drover-kept/$top" || fail "no room for the variables of a build"
}

drop() {
  check_kept "$1"
  rm -rf "/build/$top" "/run/drover-kept/$top"
}

enter() {
  check_kept "$1"
  # Not its own, whose processes Nix kills when another build gets that user. This one is the last that Nix takes.
  user=$(awk -F : '$1 == "nixbld" { n = split($4, names, ","); print names[n] }' /etc/group)
  [ -n "$user" ] || fail "there are no build users"
  chown -R -h "$user" "$1" || fail "cannot give $1 to $user"
  chmod 700 "$1" || fail "cannot give $1 to $user"
  [ "$1" = "/build/$top" ] || chmod 711 "/build/$top" || fail "cannot give $1 to $user"
  case $2 in */bash | */dash | */sh) shell=$2 ;; *) shell=/bin/sh ;; esac
  [ -x "$shell" ] || shell=/bin/sh
  export DROVER_DIR="$1" DROVER_NAME="$3" DROVER_SHELL="$shell" DROVER_USER="$user" DROVER_VARIABLES="/run/drover-kept/$top"
  # shellcheck disable=SC2016 # the shell of the build user expands it
  export DROVER_START='
    set -- "$DROVER_NAME" "$DROVER_SHELL" # no variable of the build is called so
    . "$DROVER_VARIABLES"
    [ -z "${BASH_VERSION-}" ] || [ ! -r env-vars ] || . ./env-vars
    export NIX_BUILD_TOP=/build TMPDIR=/build TEMPDIR=/build TMP=/build TEMP=/build HOME=/homeless-shelter
    export PATH="${PATH:-/path-not-set}:/usr/bin:/bin" PS1="$1:\w\$ "
    unset DROVER_DIR DROVER_NAME DROVER_SHELL DROVER_USER DROVER_VARIABLES DROVER_START
    exec "$2"'
  # shellcheck disable=SC2016 # the inner shell expands it
  exec unshare -m sh -c '
    mount --make-rprivate / 2> /dev/null
    mount --bind "$DROVER_DIR" /build && cd /build || exit 1
    if setpriv --help 2>&1 | grep -q reuid; then
      exec setpriv --reuid="$DROVER_USER" --regid=nixbld --clear-groups "$DROVER_SHELL" -c "$DROVER_START"
    fi
    exec su -m -s "$DROVER_SHELL" "$DROVER_USER" -c "$DROVER_START"'
}

run() {
  network=$1 dir=$2
  shift 2
  cd "${dir:-${HOME:-/}}" || fail "cannot enter $dir"
  [ "$network" != none ] || set -- unshare -n "$@"
  exec "$@"
}

shell() {
  cd "${HOME:-/}" 2> /dev/null || cd /
  PS1="root@$(hostname):\w# "
  export PS1
  exec "${SHELL:-/bin/sh}" -l
}

case ${1-} in
  hello) [ $# = 1 ] || usage; hello ;;
  register)
    case $#,${2-} in 1, | 2,--again) shift; register "$@" ;; *) usage ;; esac
    ;;
  stats)
    [ $# -le 2 ] || usage
    [ $# = 1 ] || set_clock "$2"
    stats
    ;;
  build-usage) [ $# = 2 ] || usage; build_usage "$2" ;;
  set-clock) [ $# = 2 ] || usage; set_clock "$2" ;;
  keep) [ $# = 2 ] || usage; keep "$2" ;;
  drop) [ $# = 2 ] || usage; drop "$2" ;;
  enter) [ $# = 4 ] || usage; shift; enter "$@" ;;
  run) [ $# -ge 4 ] || usage; shift; run "$@" ;;
  shell) [ $# = 1 ] || usage; shell ;;
  *) usage ;;
esac
