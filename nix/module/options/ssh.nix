# The ssh door.
{ lib, ... }:
let
  inherit (lib) mkEnableOption mkOption types;
  inherit (import ../types.nix { inherit lib; }) listen path;
in
{
  options.services.drover.ssh = {
    enable = mkEnableOption "the ssh door, for Nix on other machines";

    listen = mkOption {
      type = listen;
      default = "127.0.0.1:31122";
      example = "[::]:31122";
      description = "Where the ssh door listens.";
    };

    authorizedKeys = mkOption {
      type = types.listOf types.singleLineStr;
      default = [ ];
      example = [ "ssh-ed25519 AAAAC3Nza... root@laptop" ];
      description = "Public keys of those who may build: usually, of the root user of each machine.";
    };

    identityFile = mkOption {
      type = types.nullOr path;
      default = null;
      example = "/etc/nix/drover_ed25519";
      description = ''
        Private key, outside of the store, with which this host itself uses the ssh door; its public half is one of
        {option}`services.drover.ssh.authorizedKeys`. null: ssh's own choice.
      '';
    };
  };
}
