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
      type = types.deferredModule;
      default = { };
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

    image = mkOption {
      type = types.nullOr types.path;
      default =
        if cfg.guest.build == null then null else "${cfg.guest.build [ cfg.guest.config ]}/manifest.json";
      defaultText = literalMD "an image of Drover's flake, with `services.drover.guest.config`";
      description = "Manifest of the image that guests boot from.";
    };
  };
}
