#!/bin/sh
# run.sh demo | test | test:fast | attack | check | bench | soak [ARG...]: the npm scripts of these names.
# Each starts from a fresh clone.
set -eu
cd "$(dirname "$0")/.."
task=${1:?usage: run.sh demo | test | test:fast | attack | check | bench | soak}
shift

need_root() {
  [ "$(id -u)" = 0 ] && return
  echo "drover: $1 makes mounts and namespaces, which only root can: run it with sudo." >&2
  exit 77
}

jest() {
  node --experimental-vm-modules --disable-warning=ExperimentalWarning node_modules/jest/bin/jest.js "$@"
}

# The files of the chosen tests. Options about jest's report would send the list elsewhere.
list_tests() {
  for argument; do
    shift
    case $argument in --json | --outputFile=*) ;; *) set -- "$@" "$argument" ;; esac
  done
  jest --listTests "$@"
}

case $task in
  demo)
    need_root "the demo"
    sh scripts/setup.sh run demo
    exec node dist/demo/demo/main.js "$@"
    ;;
  test)
    [ "$(id -u)" = 0 ] || echo "drover: only root can make guests: the tests in test/e2e are left out." >&2
    # Only what the chosen tests need is installed and fetched.
    sh scripts/setup.sh npm
    needs=$(list_tests "$@" | node scripts/test-needs.mjs)
    # shellcheck disable=SC2086 # a list of words
    sh scripts/setup.sh npm $needs
    # shellcheck disable=SC2086
    bash scripts/test-inputs.sh $needs
    jest "$@"
    ;;
  test:fast)
    # Installs nothing but npm packages, and skips the tests that need more, whether it is there or not.
    sh scripts/setup.sh npm
    if command -v "${CC:-cc}" > /dev/null; then sh scripts/build.sh --if-changed; fi
    CI='' DROVER_TEST_FAST=1 jest "$@" --selectProjects unit integration
    ;;
  attack)
    # The tests of known attacks, and the fuzzers with 100,000 cases for each peer, or as many as the argument
    # says.
    sh scripts/setup.sh npm run
    DROVER_FUZZ_CASES=${1:-100000} CI='' jest --testTimeout=86400000 \
      test/integration/fuzz test/integration/ssh-door test/integration/socket-door test/integration/control-server \
      test/unit/doors test/unit/daemon test/unit/front test/unit/protocol test/unit/lib/print \
      test/e2e/access test/e2e/domains test/e2e/isolation test/e2e/guest-connection test/e2e/fixed-output
    ;;
  check)
    sh scripts/setup.sh check
    node_modules/.bin/prettier --check .
    node_modules/.bin/eslint .
    node_modules/.bin/tsc -p tsconfig.json
    node_modules/.bin/knip
    node scripts/check-prose.mjs
    node scripts/check-workflows.mjs
    node_modules/.bin/cspell lint --no-progress --no-summary --cache --cache-location node_modules/.cache/cspell
    # Import cycles, of types too.
    node_modules/.bin/dpdm --no-warning --no-tree --no-progress --exit-code circular:1 'src/**/*.ts'
    shellcheck scripts/*.sh scripts/ci/*.sh scripts/lib/*.sh scripts/mac-truth/*.sh scripts/release/*.sh test/support/*.sh guest-config/*.sh guest-config/debian/*.sh guest-config/kernel/*.sh nix/*.sh demo/*.sh bench/*.sh vz-helper/*.sh .ci/run
    ;;
  bench)
    if [ "$*" != "--only planner" ]; then # which needs nothing
      need_root "the benchmark"
      sh scripts/setup.sh run demo bench
      scripts/get-nix.sh forky "$PWD/.cache/nix-forky"
    fi
    case "$*" in
      *--driver*qemu* | *exact-store*)
        sh scripts/setup.sh vms
        scripts/get-qemu.sh "$PWD/.cache/qemu"
        measured=$(uname -m)
        case "$*" in *aarch64*) measured=aarch64 ;; *x86_64*) measured=x86_64 ;; esac
        for architecture in x86_64 aarch64; do
          guest-config/debian/build.sh "$architecture" "$PWD/.cache/images/$architecture"
          case "$*,$architecture" in
            *--kernel*minimal*,"$measured")
              sh scripts/setup.sh kernel
              guest-config/kernel/build.sh "$architecture" "$PWD/.cache/kernels/$architecture"
              guest-config/debian/build.sh "$architecture" "$PWD/.cache/images/$architecture-minimal" \
                "$PWD/.cache/kernels/$architecture"
              ;;
          esac
        done
        ;;
    esac
    node_modules/.bin/tsc -p bench/tsconfig.json
    exec node dist/bench/bench/main.js "$@"
    ;;
  soak)
    need_root "the soak"
    sh scripts/setup.sh run demo bench
    scripts/get-nix.sh forky "$PWD/.cache/nix-forky"
    node_modules/.bin/tsc -p bench/tsconfig.json
    exec node dist/bench/bench/soak/main.js "$@"
    ;;
  *)
    echo "usage: run.sh demo | test | test:fast | attack | check | bench | soak" >&2
    exit 2
    ;;
esac
