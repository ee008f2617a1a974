# Options that nix-darwin and NixOS have in common, with their types, as far as Drover's modules set them.
{ config, lib, ... }:
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
  machine.options = {
    hostName = mkOption { type = types.str; };
    protocol = mkOption {
      type = types.enum [
        null
        "ssh"
        "ssh-ng"
      ];
      default = "ssh";
    };
    system = mkOption {
      type = types.nullOr types.str;
      default = null;
    };
    systems = mkOption {
      type = types.listOf types.str;
      default = [ ];
    };
    sshUser = mkOption {
      type = types.nullOr types.str;
      default = null;
    };
    sshKey = mkOption {
      type = types.nullOr types.str;
      default = null;
    };
    maxJobs = mkOption {
      type = types.int;
      default = 1;
    };
    speedFactor = mkOption {
      type = types.int;
      default = 1;
    };
    mandatoryFeatures = mkOption {
      type = types.listOf types.str;
      default = [ ];
    };
    supportedFeatures = mkOption {
      type = types.listOf types.str;
      default = [ ];
    };
    publicHostKey = mkOption {
      type = types.nullOr types.str;
      default = null;
    };
  };
in
{
  options = {
    assertions = mkOption {
      type = types.listOf types.unspecified;
      default = [ ];
    };
    warnings = mkOption {
      type = types.listOf types.str;
      default = [ ];
    };
    environment.systemPackages = mkOption {
      type = types.listOf types.package;
      default = [ ];
    };
    environment.etc = mkOption {
      type = types.attrsOf (
        types.submodule {
          options.text = mkOption {
            type = types.nullOr types.lines;
            default = null;
          };
          options.source = mkOption {
            type = types.nullOr types.path;
            default = null;
          };
        }
      );
      default = { };
    };
    nix = {
      enable = mkOption {
        type = types.bool;
        default = true;
      };
      distributedBuilds = mkOption {
        type = types.bool;
        default = false;
      };
      buildMachines = mkOption {
        type = types.listOf (types.submodule machine);
        default = [ ];
      };
      settings = mkOption {
        type = types.attrsOf (types.either atom (types.listOf atom));
        default = { };
      };
    };
  };
}
