# A NixOS host's configuration with Drover, evaluated down to what ends up in files.
{
  # A module, as a user would write it.
  configuration,
  system ? "x86_64-linux",
}:
let
  lib = import ./lib.nix;
  render = import ./render.nix { inherit lib; };
  pkgs = import ./packages.nix {
    inherit lib system;
    names = [
      "coreutils"
      "qemu_kvm"
      "sqlite"
      "slirp4netns"
      "util-linux"
      "virtiofsd"
    ];
    extra = {
      drover = pkgs.package "drover-1.0" { };
      pkgsStatic.busybox = pkgs.package "busybox-static-1.0" { };
    };
  };
  inherit
    (lib.evalModules {
      modules = [
        ./hosts/nixos.nix
        ../../nixos-module
        configuration
        {
          _module.args = { inherit pkgs; };
          nix.package = pkgs.package "nix-2.34.0" { };
        }
      ];
    })
    config
    ;
  service = config.systemd.services.drover;
  cfg = config.services.drover;
in
lib.optionalAttrs cfg.enable {
  inherit (cfg) settings maxJobs;
  configFile = cfg.configFile.text;
  unit = render.serviceText service;
  path = map (package: package.name) service.path;
}
// {
  failed = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);
  inherit (config) warnings;
  etc = lib.mapAttrs (_: file: file.text) config.environment.etc;
  packages = map (package: package.name) config.environment.systemPackages;
  services = builtins.attrNames config.systemd.services;
  sshConfig = config.programs.ssh.extraConfig;
  tmpfiles = config.systemd.tmpfiles.rules;
  inherit (config.boot) kernelModules;
  nixSettings = config.nix.settings;
  inherit (config.nix) distributedBuilds;
  machines = import ./hosts/machines-file.nix { inherit lib; } config.nix.buildMachines;
}
