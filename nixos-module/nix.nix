# Registration of Drover with Nix on this host.
{ config, lib, ... }:
let
  cfg = config.services.drover;
  machine = import ../nix/module/machine.nix { inherit cfg lib; };
in
{
  config = lib.mkMerge [
    (lib.mkIf (cfg.enable && cfg.door != null) {
      nix.distributedBuilds = true;
      nix.buildMachines = [ machine.entry ];
      nix.settings.builders-use-substitutes = lib.mkDefault true;
    })
    (lib.mkIf (cfg.enable && cfg.ssh.enable) {
      programs.ssh.extraConfig = import ../nix/module/ssh-config.nix { inherit cfg lib; };
    })
  ];
}
