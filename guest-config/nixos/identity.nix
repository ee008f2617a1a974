# The guest's identity: five files from the host, in a share or on a disk, copied to where only root can read
# them.
{ lib, pkgs, ... }:
{
  systemd.services.drover-identity = lib.mkMerge [
    (import ./vital.nix { inherit pkgs; } "what the host says of this guest")
    (import ./once-before.nix "sysinit.target")
    {
      description = "What the host says of this guest";
      wantedBy = [ "sysinit.target" ];
      serviceConfig.ExecStart = "${pkgs.runtimeShell} ${../take-identity.sh} /run/drover";
      path = [
        pkgs.gnutar
        pkgs.util-linux
      ];
    }
  ];
  environment.etc."drover/manifest.json".source = "/run/drover/manifest.json";
}
