# The program, and the places of its files.
{ lib, pkgs, ... }:
let
  inherit (lib)
    literalExpression
    mkEnableOption
    mkOption
    types
    ;
  inherit (import ../types.nix { inherit lib; }) listen path word;
in
{
  options.services.drover = {
    enable = mkEnableOption "Drover, throw-away Linux builders for Nix";

    package = mkOption {
      type = types.package;
      default =
        pkgs.drover or (throw ''
          services.drover.package: there is no pkgs.drover. Import the module from Drover's flake, add the flake's
          overlays.default to nixpkgs.overlays, or set services.drover.package.'');
      defaultText = literalExpression "pkgs.drover";
      description = "The Drover to run.";
    };

    workingDirectory = mkOption {
      type = path;
      default = "/var/lib/drover";
      description = "Where Drover keeps everything that it writes. Only root can enter it.";
    };

    metrics.listen = mkOption {
      type = types.nullOr listen;
      default = "127.0.0.1:9619";
      description = "Where metrics are served for Prometheus, and the page for people; null: nowhere.";
    };

    metrics.page = mkOption {
      type = types.nullOr types.bool;
      default = null;
      description = ''
        Whether guests, builds and logs are shown there, too, to everyone who can connect; null: on a loopback address.
      '';
    };

    control.group = mkOption {
      type = types.nullOr word;
      default = null;
      example = "admin";
      description = "Group whose members may look at guests, builds and logs, and change nothing; null: none.";
    };

    settings = mkOption {
      type = import ../settings.nix { inherit lib pkgs; };
      default = { };
      example = {
        pool.maxAge = "12h";
        log.level = "debug";
      };
      # The nulls that Drover knows: no metrics, no history.
      apply = lib.filterAttrsRecursive (name: value: value != null || name == "metrics" || name == "history");
      description = ''
        Configuration file, in which every key can be set that Drover knows. What is set here has precedence over
        what follows from all other options; null leaves a key out, so that Drover's own default counts.
      '';
    };

    configFile = mkOption {
      type = types.path;
      internal = true;
      readOnly = true;
      description = "The configuration file, which was checked when it was built.";
    };
  };
}
