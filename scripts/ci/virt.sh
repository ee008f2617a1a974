#!/bin/sh
# virt.sh IMAGE WORD: boots IMAGE (kernel, initrd, manifest.json or a command line in $COMMAND_LINE) as the driver vz
# would, in QEMU's machine `virt`: console hvc0, the host's store and the identity by VirtioFS, a scratch disk. It
# succeeds once WORD is on the console, unless x86_64 programs do not run in the guest, and, if VHOST_VSOCK is a
# vhost-device-vsock, once sshd answers on vsock port 22.
# QEMU, VIRTIOFSD: the programs.
set -eu
image=$1 word=$2
: "${QEMU:=qemu-system-aarch64}" "${VIRTIOFSD:=virtiofsd}" "${VHOST_VSOCK:=}" "${SHARE:=/nix/store}" "${SHARE_TAG:=nix-store}"
work=$(mktemp -d)
pids=
clean_up() {
  # shellcheck disable=SC2086 # a list of words
  [ -z "$pids" ] || kill $pids 2> /dev/null || true
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
wait_for() {
  left=${2:-300}
  until [ -S "$1" ]; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || { echo "virt: $1 did not appear" >&2; exit 1; }
    sleep 0.1
  done
}

command_line=${COMMAND_LINE-}
mkdir -p "$work/identity"
if [ -z "$command_line" ]; then
  command_line=$(jq -r .commandLine "$image/manifest.json")
  cp "$image/manifest.json" "$work/identity/"
  printf 'name=virt\nscratch_bytes=8589934592\nnetwork=none\nshare=virtiofs\nstore=exact\nrosetta=off\ntranslators=qemu-user\n' > "$work/identity/guest.env"
  echo 'sandbox = false' > "$work/identity/nix.conf"
  ssh-keygen -q -t ed25519 -N '' -f "$work/identity/host_key"
  ssh-keygen -q -t ed25519 -N '' -f "$work/client"
  cp "$work/client.pub" "$work/identity/authorized_keys"
fi
share() { # TAG DIRECTORY
  "$VIRTIOFSD" --socket-path "$work/$1.sock" --shared-dir "$2" --readonly --sandbox none --cache auto --log-level warn &
  pids="$pids $!"
  wait_for "$work/$1.sock"
  set_device "vhost-user-fs-pci,chardev=$1,tag=$1" "$1" "$work/$1.sock"
}
devices=
set_device() { devices="$devices -chardev socket,id=$2,path=$3 -device $1"; }
share "$SHARE_TAG" "$SHARE"
share drover "$work/identity"
if [ -n "$VHOST_VSOCK" ]; then
  "$VHOST_VSOCK" --vm "guest-cid=3,socket=$work/vhost.sock,uds-path=$work/vsock.sock" &
  pids="$pids $!"
  wait_for "$work/vhost.sock"
  set_device vhost-user-vsock-pci,chardev=vsock vsock "$work/vhost.sock"
fi
truncate -s 8G "$work/scratch"
# shellcheck disable=SC2086 # lists of words
"$QEMU" -M virt -cpu max -accel tcg -m 2048 -smp 2 -nodefaults -display none -no-reboot \
  -object memory-backend-memfd,id=memory,size=2048M,share=on -numa node,memdev=memory $devices \
  -drive "if=none,id=scratch,format=raw,file=$work/scratch" -device virtio-blk-pci,drive=scratch,serial=drover-scratch \
  -device virtio-serial-pci -chardev "file,id=console,path=$work/console" -device virtconsole,chardev=console \
  -device virtio-rng-pci -kernel "$image/kernel" -initrd "$image/initrd" \
  -append "console=hvc0 ${KERNEL_PARAMETERS-} $command_line" &
qemu=$!
pids="$pids $qemu"
until grep -q "$word" "$work/console" 2> /dev/null; do
  kill -0 "$qemu" 2> /dev/null || { echo "virt: the guest ended" >&2; tail -n 50 "$work/console" >&2; exit 1; }
  sleep 0.2
done
cat "$work/console"
if grep -q 'x86_64-linux is not offered' "$work/console"; then
  echo "virt: QEMU's user emulator in the image runs nothing" >&2
  exit 1
fi
[ -n "$VHOST_VSOCK" ] || exit 0
# vhost-device-vsock's convention is Firecracker's, as vz-helper's: its answer, then the banner of sshd.
node -e '
  const socket = require("net").connect(process.argv[1], () => socket.write("CONNECT 22\n"));
  let text = "";
  socket.on("data", (bytes) => { text += bytes; if (text.includes("SSH-2.0")) { console.log(text.trim()); process.exit(0); } });
  socket.on("close", () => process.exit(1));
  setTimeout(() => process.exit(1), 60000);' "$work/vsock.sock"
