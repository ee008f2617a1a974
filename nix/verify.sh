#!/bin/sh
# verify.sh [--nixpkgs DIR] [--nix-darwin DIR] [--determinate DIR] [CHECK…]: evaluates the guest, the modules
# and the whole flake with the real nixpkgs and nix-darwin, down to derivations, and compares the results with
# the expected ones. Builds nothing. It takes a Nix with flakes and, for sources that are not given, a
# network: nixpkgs and nix-darwin are those of flake.lock.
#
# DROVER_NIX: the nix to use; default: the one on PATH. CHECK: names from test/nix/real/checks.nix, or flake.
set -eu
cd "$(dirname "$0")/.."
nixpkgs='' nix_darwin='' determinate=''
while [ $# -gt 0 ]; do
  case $1 in
    --nixpkgs) nixpkgs=$(realpath "$2") ;;
    --nix-darwin) nix_darwin=$(realpath "$2") ;;
    --determinate) determinate=$(realpath "$2") ;;
    -*) echo "usage: verify.sh [--nixpkgs DIR] [--nix-darwin DIR] [--determinate DIR] [CHECK…]" >&2; exit 2 ;;
    *) break ;;
  esac
  shift 2
done

nix() { "${DROVER_NIX:-nix}" --extra-experimental-features 'nix-command flakes' "$@"; }
locked() { nix eval --raw --impure --expr "(builtins.getFlake \"path:$PWD\").inputs.$1.outPath"; }

overrides=''
[ -z "$nixpkgs" ] || overrides="$overrides --override-input nixpkgs path:$nixpkgs"
[ -z "$nix_darwin" ] || overrides="$overrides --override-input nix-darwin path:$nix_darwin"
[ -n "$nixpkgs" ] || nixpkgs=$(locked nixpkgs)
[ -n "$nix_darwin" ] || nix_darwin=$(locked nix-darwin)
[ -n "$determinate" ] || determinate=$(nix eval --raw --expr '(builtins.fetchTree {
  type = "github"; owner = "DeterminateSystems"; repo = "determinate";
  rev = "73b3bdb962a070aa088ac310e606ff760bcc0cf7"; narHash = "sha256-2z08u28D2MHNIsDfndq3yzmL1vG6Sn3sKIC77W8s13A=";
}).outPath')

seen=$(mktemp)
trap 'rm -f "$seen"' EXIT
failed=0 passed=0
report() { # NAME STATUS
  if [ "$2" = 0 ]; then
    echo "ok      $1"
    passed=$((passed + 1))
  else
    echo "FAILED  $1"
    sed 's/^/        /' "$seen"
    failed=$((failed + 1))
  fi
}

# Nothing is written to a store: of a derivation only its path is computed.
checks="import ./test/nix/real/checks.nix { nixpkgs = $nixpkgs; nix-darwin = $nix_darwin; determinate = $determinate; }"
evaluate() { nix eval --impure --store dummy:// --read-only "$@"; }
if [ $# = 0 ]; then
  # shellcheck disable=SC2046 # names without spaces
  set -- $(evaluate --raw --expr "toString (builtins.attrNames ($checks))") flake
fi
for check; do
  status=0
  if [ "$check" = flake ]; then
    # shellcheck disable=SC2086 # options
    nix flake check --store 'dummy://?read-only=false' --no-write-lock-file $overrides --no-build --all-systems "path:$PWD" \
      > "$seen" 2>&1 || status=1
  else
    { evaluate --json --expr "($checks).$check" > "$seen" 2>&1 && grep -q '^{"ok":true,' "$seen"; } || status=1
  fi
  report "$check" "$status"
done
echo "$passed ok, $failed failed"
[ "$failed" = 0 ]
