# The module for nix-darwin, evaluated with the real nix-darwin and nixpkgs: see docs/verifying.md.
{
  # Folders with their sources.
  nix-darwin,
  nixpkgs,
  # That of a newer nixpkgs.lib, where nix-darwin is newer than nixpkgs.
  lib ? import (nixpkgs + "/lib"),
  system ? "aarch64-darwin",
  configuration ? { },
  extraModules ? [ ],
  # As the flake does.
  hasFlake ? true,
}:
let
  pkgs = import nixpkgs {
    inherit system;
    overlays = [
      (import ./stubs.nix)
      (final: _: lib.optionalAttrs hasFlake { drover = final.writeShellScriptBin "drover" "exit 0"; })
    ];
  };
  inherit
    (import (nix-darwin + "/eval-config.nix") {
      inherit lib;
      modules = [
        ../../../darwin-module
        configuration
        {
          _module.args.pkgs = lib.mkForce pkgs;
          nixpkgs.hostPlatform = system;
          nixpkgs.source = nixpkgs;
          system.stateVersion = 6;
          system.checks.verifyNixPath = false;
          system.tools.darwin-uninstaller.enable = false;
          documentation.enable = false;
          services.drover.enable = true;
          services.drover.guest = lib.mkIf hasFlake {
            build = modules: pkgs.runCommand "image-with-${toString (lib.length modules)}-modules" { } "";
            release = pkgs.callPackage ../../../nix/release.nix {
              release = {
                version = "1.0";
                url = "http://localhost";
                files = lib.genAttrs [ "kernel" "initrd" "manifest.json" "closure.tar" ] (_: lib.fakeHash);
              };
            };
          };
        }
      ]
      ++ extraModules;
    })
    config
    ;
  etc = name: config.environment.etc.${name}.text or null;
in
{
  failed = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);
  inherit (config) warnings;
  inherit (config.services.drover) settings;
  plist = config.environment.launchDaemons."org.nixos.drover.plist".text;
  machines = etc "nix/machines";
  sshConfig = etc "ssh/ssh_config.d/100-drover.conf";
  newsyslog = etc "newsyslog.d/drover.conf";
  determinate = etc "determinate/config.json";
  nixCustomConf = etc "nix/nix.custom.conf";
  configFile = config.environment.etc."drover/drover.yaml".source.drvPath;
  toplevel = config.system.build.toplevel.drvPath;
}
