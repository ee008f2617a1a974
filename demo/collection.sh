# shellcheck shell=bash disable=SC2154
# Builder of a collection: links $names to $paths in $out.
set -eu

export PATH=$toolchain/bin
mkdir "$out"
read -r -a targets <<<"$paths"
for name in $names; do
  echo "$name -> ${targets[0]}"
  ln -s "${targets[0]}" "$out/$name"
  targets=("${targets[@]:1}")
done
