# Options of nix-darwin, with their types, as far as Drover's module sets them.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  service.options = {
    command = mkOption {
      type = types.either types.str types.path;
      default = "";
    };
    path = mkOption {
      type = types.listOf (types.either types.path types.str);
      default = [ ];
    };
    environment = mkOption {
      type = types.attrsOf types.str;
      default = { };
    };
    serviceConfig = mkOption {
      default = { };
      type = types.submodule {
        options =
          lib.genAttrs
            [
              "RunAtLoad"
              "KeepAlive"
            ]
            (
              _:
              mkOption {
                type = types.nullOr types.bool;
                default = null;
              }
            )
          //
            lib.genAttrs
              [
                "StandardErrorPath"
                "StandardOutPath"
              ]
              (
                _:
                mkOption {
                  type = types.nullOr types.path;
                  default = null;
                }
              )
          // {
            ProcessType = mkOption {
              type = types.enum [
                "Background"
                "Standard"
                "Adaptive"
                "Interactive"
              ];
              default = "Standard";
            };
            ExitTimeOut = mkOption {
              type = types.nullOr types.int;
              default = null;
            };
            SoftResourceLimits.NumberOfFiles = mkOption {
              type = types.nullOr types.int;
              default = null;
            };
          };
      };
    };
  };
in
{
  imports = [ ./common.nix ];

  options = {
    launchd.daemons = mkOption {
      type = types.attrsOf (types.submodule service);
      default = { };
    };
    nix.linux-builder = {
      enable = lib.mkEnableOption "Linux builder";
      systems = mkOption {
        type = types.listOf types.str;
        default = [ "aarch64-linux" ];
      };
    };
    system.checks.text = mkOption {
      type = types.lines;
      default = "";
    };
    system.activationScripts = mkOption {
      type = types.attrsOf (
        types.submodule {
          options.text = mkOption {
            type = types.lines;
            default = "";
          };
        }
      );
      default = { };
    };
  };
}
