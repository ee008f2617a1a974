# Options of NixOS, with their types, as far as Drover's module sets them.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  atom = types.nullOr (
    types.oneOf [
      types.bool
      types.int
      types.float
      types.str
      types.path
      types.package
    ]
  );
  units = mkOption {
    type = types.listOf types.str;
    default = [ ];
  };
  service.options = {
    description = mkOption {
      type = types.singleLineStr;
      default = "";
    };
    wantedBy = units;
    wants = units;
    after = units;
    path = mkOption {
      type = types.listOf (
        types.oneOf [
          types.package
          types.str
        ]
      );
      default = [ ];
    };
    environment = mkOption {
      type = types.attrsOf types.str;
      default = { };
    };
    startLimitIntervalSec = mkOption { type = types.int; };
    serviceConfig = mkOption {
      type = types.attrsOf (types.either atom (types.listOf atom));
      default = { };
    };
  };
in
{
  imports = [ ./common.nix ];

  options = {
    boot.kernelModules = mkOption {
      type = types.listOf types.str;
      default = [ ];
    };
    boot.binfmt.emulatedSystems = mkOption {
      type = types.listOf types.str;
      default = [ ];
    };
    boot.binfmt.preferStaticEmulators = mkOption {
      type = types.bool;
      default = false;
    };
    nix.package = mkOption { type = types.package; };
    programs.ssh.extraConfig = mkOption {
      type = types.lines;
      default = "";
    };
    systemd.tmpfiles.rules = mkOption {
      type = types.listOf types.str;
      default = [ ];
    };
    systemd.services = mkOption {
      type = types.attrsOf (types.submodule service);
      default = { };
    };
  };
}
