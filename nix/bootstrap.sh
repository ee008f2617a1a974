#!/bin/sh
# bootstrap.sh [--dry-run]: enables Linux builds on a Mac that has never made one.
#
# Guests boot from an image that only Linux can build. So it is built once by nixpkgs' linux-builder, a
# virtual machine from nixpkgs' binary cache that need not be built; then Drover is registered, and the
# linux-builder removed. Each step is skipped if its result exists: after an error, or at any time, run it
# again.
#
# From the flake (nix/bootstrap.nix), as store paths: DROVER_PACKAGE, the image as DROVER_IMAGE and its
# derivation as DROVER_IMAGE_DERIVATION; for a released image import-closure.sh as DROVER_IMPORT, otherwise the
# linux-builder's VM as BUILDER_VM, with its public host key BUILDER_HOST_KEY.
set -eu
: "${DROVER_PACKAGE:?}" "${DROVER_IMAGE:?}" "${DROVER_IMAGE_DERIVATION:?}"
[ -n "${DROVER_IMPORT-}" ] || : "${BUILDER_VM:?}" "${BUILDER_HOST_KEY:?}"
root=${DROVER_ROOT:-} # of the file system, in tests
profiles=$root/nix/var/nix/profiles
work=${XDG_CACHE_HOME:-$HOME/.cache}/drover-bootstrap
builder_port=31022
service=org.nixos.drover
plist=$root/Library/LaunchDaemons/$service.plist
config=$root/etc/drover/drover.yaml
newsyslog=$root/etc/newsyslog.d/drover.conf
machines=$root/etc/nix/machines
paths=$root/etc/paths.d/drover
vm=
changed= # whether what the service runs is not what it ran before

case ${1-} in
  '') dry_run= ;;
  --dry-run) dry_run=yes ;;
  *) echo "usage: bootstrap [--dry-run]" >&2; exit 2 ;;
esac

say() { echo "bootstrap: $*"; }
fail() {
  echo "bootstrap: $1" >&2
  [ $# = 1 ] || echo "  $2" >&2
  exit 1
}
# Announces a step; succeeds if it must be done.
begin() {
  if [ -n "$dry_run" ]; then
    say "would $1"
    return 1
  fi
  say "$1"
}
# wait_until WHAT SECONDS COMMAND...: until the command succeeds
wait_until() {
  what=$1 left=$2
  shift 2
  until "$@"; do
    [ "$left" -gt 0 ] || fail "gave up waiting: $what"
    left=$((left - 1))
    sleep "${DROVER_BOOTSTRAP_SECOND:-1}"
  done
}
stop_builder() {
  [ -n "$vm" ] || return 0
  say "stop the linux-builder"
  kill "$vm" 2> /dev/null || true
  wait "$vm" 2> /dev/null || true
  vm=
}
trap stop_builder EXIT
trap 'exit 130' INT TERM

check_machine() {
  [ "$(uname -sm)" = "Darwin arm64" ] ||
    fail "this is for Macs with Apple silicon" "On Linux, see Drover's README: guests need no image there."
  version=$(sw_vers -productVersion)
  [ "${version%%.*}" -ge 13 ] || fail "Drover needs macOS 13, and this is $version" "Update macOS."
  command -v nix-store > /dev/null || fail "there is no Nix here" "Install Nix first."
  case $work in *[!A-Za-z0-9/._-]*) fail "the path $work has characters that Nix cannot hand to ssh" "Set XDG_CACHE_HOME." ;; esac
  arch -x86_64 /usr/bin/true 2> /dev/null ||
    say "Rosetta is not installed: there will be no builds for x86_64-linux before you run softwareupdate --install-rosetta"
}

# --- the image

has_linux_builder() {
  # shellcheck disable=SC2016 # the builder's shell expands it
  nix-build --no-out-link --max-jobs 0 --argstr now "$(date +%s)" -E '{ now }: derivation {
    name = "drover-bootstrap-probe"; system = "aarch64-linux"; inherit now; allowSubstitutes = false;
    builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; }' > /dev/null 2>&1
}

builder_answers() {
  ssh -i "$work/keys/builder_ed25519" -p "$builder_port" -o BatchMode=yes -o ConnectTimeout=2 \
    -o UserKnownHostsFile="$work/known_hosts" -o StrictHostKeyChecking=yes builder@127.0.0.1 true 2> /dev/null
}

start_builder() {
  mkdir -p "$work/keys"
  chmod 700 "$work" "$work/keys"
  [ -e "$work/keys/builder_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -C drover-bootstrap -f "$work/keys/builder_ed25519"
  echo "[127.0.0.1]:$builder_port $BUILDER_HOST_KEY" > "$work/known_hosts"
  if builder_answers; then
    say "the linux-builder of an earlier attempt is still running; using it"
    return
  fi
  say "start the linux-builder; its console is in $work/builder.log"
  # Only the public key is shown to the VM, in the store.
  mkdir -p "$work/public"
  cp "$work/keys/builder_ed25519.pub" "$work/public/"
  shown=$(nix-store --add "$work/public")
  (cd "$work" && KEYS=$shown exec "$BUILDER_VM") > "$work/builder.log" 2>&1 < /dev/null &
  vm=$!
  wait_until "the linux-builder answers (see $work/builder.log)" 300 builder_is_there
}

builder_is_there() {
  kill -0 "$vm" 2> /dev/null || fail "the linux-builder has ended" "$(tail -n 5 "$work/builder.log")"
  builder_answers
}

# The image that this version names by its hash, and its system.
fetch_image() {
  begin "fetch the guest image: $DROVER_IMAGE" || return 0
  nix-store --realise "$DROVER_IMAGE_DERIVATION" > /dev/null
  sudo /bin/sh "$DROVER_IMPORT" "$root$DROVER_IMAGE" "$root/nix/var/nix/gcroots/drover-guest-closure"
}

build_image() {
  if [ -e "$root$DROVER_IMAGE/manifest.json" ]; then
    say "the guest image is there: $DROVER_IMAGE"
    return
  fi
  begin "build the guest image: $DROVER_IMAGE" || return 0
  if has_linux_builder; then
    say "this Mac's Nix has a builder for aarch64-linux already; it builds the image"
    nix-store --realise "$DROVER_IMAGE_DERIVATION" > /dev/null
    return
  fi
  start_builder
  # As root, and without the daemon: the build hook then finds the linux-builder by these settings only.
  sudo env NIX_SSHOPTS="-p $builder_port -o UserKnownHostsFile=$work/known_hosts -o StrictHostKeyChecking=yes" \
    nix-store --store local --realise "$DROVER_IMAGE_DERIVATION" --max-jobs 0 --option builders-use-substitutes true \
    --builders "ssh-ng://builder@127.0.0.1 aarch64-linux $work/keys/builder_ed25519 4 1 big-parallel,benchmark,kvm" > /dev/null
  stop_builder
}

# --- Drover

# write FILE CONTENT: for which root is needed, if that is not what is in it already; $written says so
write() {
  written=
  [ "$(cat "$1" 2> /dev/null)" != "$2" ] || return 0
  sudo mkdir -p "$(dirname "$1")"
  echo "$2" | sudo tee "$1" > /dev/null
  sudo chmod 644 "$1"
  written=yes
}

# install NAME STORE-PATH: as a profile, which is at the same place in every version, and not collected as garbage
install() {
  [ "$(readlink -f "$profiles/$1" 2> /dev/null)" != "$2" ] || return 0
  begin "install $2 as $profiles/$1" || return 0
  sudo nix-env --profile "$profiles/$1" --set "$2"
  changed=yes
}

write_config() {
  if [ -e "$config" ]; then
    say "the configuration is there: $config"
    return
  fi
  begin "write the configuration: $config" || return 0
  write "$config" "# Drover's configuration: see its README. A change is noticed.
driver: vz
guest: { image: /nix/var/nix/profiles/drover-guest-image/manifest.json, scratchSize: 50GiB }
log: { file: /var/log/drover.log }"
}

rotate_logs() {
  begin "have its logs rotated: $newsyslog" || return 0
  write "$newsyslog" "# logfilename [owner:group] mode count size(KiB) when flags [/pid_file] [sig_num]
/var/log/drover.log root:wheel 640 5 10240 * J /var/lib/drover/drover.pid
/var/log/drover.stderr.log root:wheel 640 2 1024 * N"
}

add_to_path() {
  begin "have new terminals find drover: $paths" || return 0
  write "$paths" "/nix/var/nix/profiles/drover/bin"
}

is_loaded() { sudo launchctl print "system/$service" > /dev/null 2>&1; }
is_gone() { ! is_loaded; }

register_service() {
  begin "register the service: $plist" || return 0
  write "$plist" "$(
    cat << END
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key><string>$service</string>
  <key>ProgramArguments</key>
  <array>
    <string>/bin/sh</string><string>-c</string>
    <string>/bin/wait4path /nix/store &amp;&amp; exec /nix/var/nix/profiles/drover/bin/drover serve --config /etc/drover/drover.yaml</string>
  </array>
  <key>EnvironmentVariables</key>
  <dict><key>PATH</key><string>/nix/var/nix/profiles/default/bin:/usr/bin:/bin:/usr/sbin:/sbin</string></dict>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key><true/>
  <key>ProcessType</key><string>Interactive</string>
  <key>ExitTimeOut</key><integer>120</integer>
  <key>SoftResourceLimits</key><dict><key>NumberOfFiles</key><integer>65536</integer></dict>
  <key>StandardErrorPath</key><string>/var/log/drover.stderr.log</string>
  <key>StandardOutPath</key><string>/var/log/drover.stderr.log</string>
</dict>
</plist>
END
  )"
  if is_loaded && [ -n "$written" ]; then
    # Running builds may end first.
    sudo launchctl bootout "system/$service"
    wait_until "the service ends" 150 is_gone
  fi
  if ! is_loaded; then
    sudo launchctl bootstrap system "$plist"
  elif [ -n "$changed" ]; then
    sudo launchctl kickstart -k "system/$service"
  fi
}

register_machine() {
  begin "tell Nix of Drover: $machines" || return 0
  machine=$(sudo "$DROVER_PACKAGE/bin/drover" machines --config "$config")
  # The line of an earlier time gives way to it.
  others=$(grep -v '^ssh-ng://localhost?remote-program=[^ ]*/doors/connect ' "$machines" 2> /dev/null) || true
  write "$machines" "$others${others:+
}$machine"
  # Where Nix is Determinate's, the second is included by the first.
  builders=$(cat "$root/etc/nix/nix.conf" "$root/etc/nix/nix.custom.conf" 2> /dev/null | grep '^ *builders *=' | tail -n 1) || true
  case $builders in
    '' | *@/etc/nix/machines*) ;;
    *) say "nix.conf sets builders to something else than that file: add to it, after a semicolon: @/etc/nix/machines" ;;
  esac
}

tell_nix_darwin() {
  say "nix-darwin manages this Mac, so the rest is for its configuration; add Drover's flake to your inputs, and"
  echo "    imports = [ drover.darwinModules.default ];"
  echo "    services.drover.enable = true;"
  say "then: darwin-rebuild switch. The image that it asks for is the one that is in the store now."
  say "What you set in services.drover.guest.config makes another one: switch without it first, then guests build that."
}

check_machine
if [ -n "${DROVER_IMPORT-}" ]; then fetch_image; else build_image; fi
install drover-guest-image "$DROVER_IMAGE"
if [ -e "$root/run/current-system/darwin-version" ] || [ -e "$root/run/current-system/darwin-version.json" ]; then
  tell_nix_darwin
else
  install drover "$DROVER_PACKAGE"
  write_config
  rotate_logs
  add_to_path
  register_service
  register_machine
  say "to undo it: sudo launchctl bootout system/$service; remove $plist, $config, $newsyslog, $paths and Drover's line in $machines"
fi
[ -n "$dry_run" ] || rm -rf "$work"
say "done"
