#!/bin/sh
# run.sh demo | test | check | bench [ARG...]: what the npm scripts of these names do, from a fresh clone on.
set -eu
cd "$(dirname "$0")/.."
what=${1:?usage: run.sh demo | test | check | bench}
shift

need_root() {
  [ "$(id -u)" = 0 ] && return
  echo "drover: $1 makes mounts and namespaces, which only root can: run it with sudo." >&2
  exit 77
}

jest() {
  node --experimental-vm-modules --disable-warning=ExperimentalWarning node_modules/jest/bin/jest.js "$@"
}

case $what in
  demo)
    need_root "the demo"
    sh scripts/setup.sh run demo
    exec node dist/demo/demo/main.js "$@"
    ;;
  test)
    if [ "$(id -u)" = 0 ]; then
      sh scripts/setup.sh run demo test
      bash scripts/test-inputs.sh
      sh vz-helper/check.sh
      jest "$@"
    else
      echo "drover: as a user who is not root, the tests with real guests (e2e) are left out: they make mounts and namespaces." >&2
      sh scripts/setup.sh run test
      sh vz-helper/check.sh
      jest --selectProjects unit integration "$@"
    fi
    ;;
  check)
    sh scripts/setup.sh check
    node_modules/.bin/prettier --check .
    node_modules/.bin/eslint .
    node_modules/.bin/tsc -p tsconfig.json
    node_modules/.bin/knip
    shellcheck scripts/*.sh scripts/lib/*.sh test/support/*.sh guest-config/*.sh guest-config/debian/*.sh nix/*.sh demo/*.sh vz-helper/*.sh .ci/run
    ;;
  bench)
    need_root "the benchmark"
    sh scripts/setup.sh run demo bench
    scripts/get-nix.sh forky "$PWD/.cache/nix-forky"
    case "$*" in
      *--driver*qemu*)
        sh scripts/setup.sh vms
        scripts/get-qemu.sh "$PWD/.cache/qemu"
        for architecture in x86_64 aarch64; do
          guest-config/debian/build.sh "$architecture" "$PWD/.cache/images/$architecture"
        done
        ;;
    esac
    node_modules/.bin/tsc -p bench/tsconfig.json
    exec node dist/bench/bench/main.js "$@"
    ;;
  *)
    echo "usage: run.sh demo | test | check | bench" >&2
    exit 2
    ;;
esac
