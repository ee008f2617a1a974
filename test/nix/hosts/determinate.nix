# Options of Determinate's module for nix-darwin, with their types, as far as Drover's module sets them.
{
  config,
  lib,
  options,
  ...
}:
let
  inherit (lib) mkOption types;
in
{
  options.determinateNix = {
    enable = mkOption {
      type = types.bool;
      default = true;
    };
    distributedBuilds = mkOption {
      type = types.bool;
      default = false;
    };
    buildMachines = mkOption {
      inherit (options.nix.buildMachines) type;
      default = [ ];
    };
    customSettings = mkOption {
      type = types.attrsOf types.anything;
      default = { };
    };
    nixosVmBasedLinuxBuilder = {
      enable = mkOption {
        type = types.bool;
        default = false;
      };
      systems = mkOption {
        type = types.listOf types.str;
        default = [ "aarch64-linux" ];
      };
    };
    determinateNixd.builder.state = mkOption {
      type = types.nullOr (
        types.enum [
          "disabled"
          "enabled"
        ]
      );
      default = null;
    };
  };
  config = lib.mkIf config.determinateNix.enable { nix.enable = lib.mkForce false; };
}
