# The guest's identity: five files from the host, in a share or on a disk, copied to where only root can read
# them.
{ lib, pkgs, ... }:
lib.mkMerge [
  {
    systemd.services.drover-identity = import ./vital.nix {
      inherit pkgs;
    } "what the host says of this guest";
  }
  {
    systemd.services.drover-identity = {
      description = "What the host says of this guest";
      wantedBy = [ "sysinit.target" ];
      before = [
        "sysinit.target"
        "shutdown.target"
      ];
      conflicts = [ "shutdown.target" ];
      unitConfig.DefaultDependencies = false;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${pkgs.runtimeShell} ${../take-identity.sh} /run/drover";
      };
      path = [
        pkgs.gnutar
        pkgs.util-linux
      ];
    };
    environment.etc."drover/manifest.json".source = "/run/drover/manifest.json";
  }
]
