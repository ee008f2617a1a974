# The module for NixOS, evaluated with the real nixpkgs: see docs/verifying.md.
{
  # Folder with its sources.
  nixpkgs,
  system ? "x86_64-linux",
  configuration ? { },
  # As the flake does.
  hasFlake ? true,
}:
let
  overlays = [
    (import ./stubs.nix)
    (final: _: if hasFlake then { drover = final.writeShellScriptBin "drover" "exit 0"; } else { })
  ];
  # A nixpkgs without its own cache.
  noCache = {
    nix.settings.substituters = [ ];
    nix.settings.trusted-public-keys = [ ];
  };
  host = import (toString nixpkgs + "/nixos/lib/eval-config.nix") {
    inherit system;
    modules = [
      ../../../nixos-module
      configuration
      noCache
      {
        nixpkgs.overlays = overlays;
        services.drover.enable = true;
        boot.loader.grub.enable = false;
        fileSystems."/" = {
          device = "none";
          fsType = "tmpfs";
        };
        system.stateVersion = "24.05";
      }
    ];
  };
  inherit (host) config lib;
in
{
  failed = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);
  inherit (config) warnings;
  inherit (config.services.drover) settings;
  unit = config.systemd.units."drover.service".text;
  tmpfiles = lib.filter (lib.hasInfix "drover") config.systemd.tmpfiles.rules;
  machines = config.environment.etc."nix/machines".text or null;
  sshConfig = config.environment.etc."ssh/ssh_config".text;
  configFile = config.environment.etc."drover/drover.yaml".source.drvPath;
  toplevel = config.system.build.toplevel.drvPath;
  vmTest =
    ((import nixpkgs { inherit system overlays; }).testers.runNixOSTest {
      imports = [ (import ../../../nixos-module/test.nix { module = ../../../nixos-module; }) ];
      defaults = noCache;
    }).drvPath;
}
