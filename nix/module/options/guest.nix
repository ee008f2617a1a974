# Images of guests, for drivers with virtual machines.
{ config, lib, ... }:
let
  inherit (lib)
    literalExpression
    literalMD
    mkOption
    types
    ;
  cfg = config.services.drover;
in
{
  options.services.drover.guest = {
    config = mkOption {
      type = types.nullOr types.deferredModule;
      default = null;
      example = literalExpression ''
        { security.pki.certificateFiles = [ ./company-ca.pem ]; }
      '';
      description = ''
        NixOS configuration of guests that are machines of their own, beyond what Drover sets. A change makes a
        new image, for which Linux is needed: the guests of before build it.
      '';
    };

    build = mkOption {
      type = types.nullOr (types.functionTo types.package);
      default = null;
      internal = true;
      description = "From a list of NixOS modules to a guest image. Set by Drover's flake.";
    };

    release = mkOption {
      type = types.nullOr types.package;
      default = null;
      internal = true;
      description = "The released guest image that this version of Drover pins. Set by Drover's flake.";
    };

    followsNixpkgs = mkOption {
      type = types.bool;
      default = false;
      internal = true;
      description = "Whether the flake's nixpkgs is another than that of its lock file. Set by Drover's flake.";
    };

    image = mkOption {
      type = types.nullOr (
        types.either (types.enum [
          "release"
          "build"
        ]) types.path
      );
      default = if cfg.guest.build == null then null else "build";
      defaultText = literalMD "`\"build\"`; on a Mac `\"release\"`, unless `services.drover.guest.config` is set";
      description = ''
        The image that guests boot from: `"release"` is the one that this version of Drover names by its hash,
        `"build"` is made of Drover's flake and `services.drover.guest.config`, which takes Linux. Otherwise the
        path of a manifest.
      '';
    };

    manifest = mkOption {
      type = types.nullOr types.str;
      internal = true;
      readOnly = true;
      description = "Manifest of the image, as the configuration file names it.";
    };
  };

  config.services.drover.guest.manifest =
    let
      inherit (cfg.guest)
        build
        config
        image
        release
        ;
      # Until there is a release.
      isReleased = image == "release" && release != null;
      built = if build == null then null else build (lib.optional (config != null) config);
      package = if isReleased then release else built;
    in
    if image == "release" || image == "build" then
      if package == null then null else "${package}/manifest.json"
    else if image == null then
      null
    else
      toString image;
}
