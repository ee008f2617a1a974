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
      description = ''
        Public keys of untrusted clients: usually, of the root user of each machine. RSA keys need 3072 bits.
      '';
    };

    clients = mkOption {
      type = types.listOf (types.attrsOf types.anything);
      default = [ ];
      example = [
        {
          key = "ssh-ed25519 AAAAC3Nza...";
          name = "ci";
          maxBuilds = 8;
        }
      ];
      description = ''
        Clients with settings of their own: `key`, `name`, `trusted`, `maxBuilds`, `maxSessions`. A client with
        `trusted = true` is root on this host.
      '';
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
