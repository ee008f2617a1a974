# The guest, evaluated with the real nixpkgs: see docs/verifying.md.
{
  # Folder with its sources.
  nixpkgs,
  system ? "aarch64-linux",
  configuration ? { },
}:
let
  guest = import ../../../nix/guest-system.nix {
    inherit nixpkgs system;
    modules = [
      configuration
      { nixpkgs.overlays = [ (import ./stubs.nix) ]; }
    ];
  };
  inherit (guest) config lib;
  texts = lib.mapAttrs (_: unit: unit.text or null);
  drover = lib.filterAttrs (name: _: lib.hasPrefix "drover-" name);
in
{
  failed = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);
  inherit (config) warnings;
  image = config.system.build.droverImage.drvPath;
  toplevel = config.system.build.toplevel.drvPath;
  fstab = config.environment.etc.fstab.text;
  initrdFstab = config.boot.initrd.systemd.managerEnvironment.SYSTEMD_SYSROOT_FSTAB.text;
  nixConf = config.environment.etc."nix/nix.conf".source.text;
  kernelParams = toString config.boot.kernelParams;
  units = texts (drover config.systemd.units);
  initrdUnits = texts (drover config.boot.initrd.systemd.units);
  inherit (config.drover.guest) systems;
}
