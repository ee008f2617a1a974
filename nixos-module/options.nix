# Options of NixOS only, and NixOS-specific parts of the common options.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.drover;
  inherit (pkgs.stdenv) hostPlatform;
  inherit (config.boot) binfmt;
  # Others would not be found in a build's sandbox.
  emulated = lib.optionals (binfmt.preferStaticEmulators or false) (
    lib.filter (lib.hasSuffix "-linux") binfmt.emulatedSystems
  );
in
{
  options.services.drover.driver = mkOption {
    type = types.enum [
      "namespace"
      "qemu"
    ];
    default = "namespace";
    description = ''
      How guests are made: as namespaces on this host, or as virtual machines, which takes
      {option}`services.drover.guest.image`.
    '';
  };

  config = lib.mkIf cfg.enable {
    services.drover = {
      systems = lib.mkOptionDefault (
        lib.unique ([ hostPlatform.system ] ++ lib.optional hostPlatform.isx86_64 "i686-linux" ++ emulated)
      );
      supportedFeatures = lib.mkOptionDefault [
        "benchmark"
        "big-parallel"
      ];
      memory = lib.mkOptionDefault null;
      scratchSize = lib.mkOptionDefault null;
      guest.image = lib.mkIf (cfg.driver != "qemu") (lib.mkDefault null);
      settings.driver = lib.mkDefault cfg.driver;
    };

    assertions = [
      {
        assertion = cfg.driver == "qemu" -> cfg.settings.guest ? image;
        message = ''
          services.drover.driver is "qemu", but there is no image for guests to boot from. Name the manifest of one as
          services.drover.guest.image, or set services.drover.driver = "namespace".'';
      }
    ];
  };
}
