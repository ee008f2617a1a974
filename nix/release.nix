# The released guest image that release.json names: a directory as nix/guest-image.nix makes it, and in `closure` a
# binary cache with the guest's system, which import-closure.sh adds to the host's store. null: nothing is released
# yet. scripts/release/pin.sh writes release.json.
{
  fetchurl,
  lib,
  runCommand,
  release ? lib.importJSON ./release.json,
}:
let
  file =
    name:
    fetchurl {
      url = "${release.url}/${name}";
      hash = release.files.${name};
    };
in
if release.version == null then
  null
else
  runCommand "drover-guest-release-${release.version}" { } ''
    mkdir -p $out/closure
    ln -s ${file "kernel"} $out/kernel
    ln -s ${file "initrd"} $out/initrd
    cp ${file "manifest.json"} $out/manifest.json
    tar -xf ${file "closure.tar"} -C $out/closure
  ''
