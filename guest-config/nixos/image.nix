# The files that drivers boot: a kernel, an initrd, and the manifest that describes them. The system itself is
# in the store, and visible in the guest through the host's.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  inherit (config.system) build;
  inherit (config.system.boot) loader;
in
{
  system.build.droverImage = pkgs.callPackage ../../nix/guest-image.nix {
    inherit (config.drover.guest)
      exactStore
      shell
      systems
      translators
      ;
    inherit (build) toplevel;
    inherit (config.boot) kernelParams;
    nix = config.nix.package;
    kernel = "${build.kernel}/${loader.kernelFile}";
    initrd = "${build.initialRamdisk}/${loader.initrdFile}";
  };
}
