{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (pkgs.stdenv) hostPlatform;
  cfg = config.drover.guest;
in
{
  options.drover.guest = {
    rosetta.enable = lib.mkOption {
      type = lib.types.bool;
      default = hostPlatform.isAarch64;
      defaultText = lib.literalExpression "pkgs.stdenv.hostPlatform.isAarch64";
      description = ''
        Whether the guest runs x86_64 programs with Rosetta, where the host shares it. On a host without it, or where it
        does not work, QEMU runs them, if `qemuUser.enable` is set.
      '';
    };

    qemuUser.enable = lib.mkOption {
      type = lib.types.bool;
      default = cfg.rosetta.enable;
      defaultText = lib.literalExpression "config.drover.guest.rosetta.enable";
      description = ''
        Whether the guest has QEMU's user emulator for x86_64 programs, many times slower than Rosetta. The host's
        `guest.x86_64` says which is used. If none works, the guest says so on its console, and does not offer
        `x86_64-linux`.
      '';
    };

    translators = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = lib.optional cfg.qemuUser.enable "qemu-user";
      internal = true;
      readOnly = true;
      description = "Translators of x86_64 programs that are part of the image.";
    };

    systems = lib.mkOption {
      type = lib.types.nonEmptyListOf lib.types.str;
      defaultText = lib.literalMD "the guest's own, and what it runs besides";
      description = ''
        Nix systems of the builds that the guest can run, its own first. To be extended where modules add emulators, such
        as `boot.binfmt.emulatedSystems`.
      '';
    };

    exactStore = lib.mkOption {
      type = lib.types.package;
      default = pkgs.pkgsStatic.callPackage ../exact-store { };
      defaultText = lib.literalMD "`guest-config/exact-store`";
      internal = true;
      description = "The program that shows the host's store. It runs from the initrd to the end.";
    };

    shell = lib.mkOption {
      type = lib.types.path;
      default = "${pkgs.busybox-sandbox-shell}/bin/busybox";
      defaultText = lib.literalExpression ''"''${pkgs.busybox-sandbox-shell}/bin/busybox"'';
      description = "The static shell that builds find as `/bin/sh`.";
    };
  };

  config.drover.guest.systems = lib.mkMerge [
    (lib.mkBefore [ hostPlatform.system ])
    (lib.mkIf hostPlatform.isx86_64 [ "i686-linux" ])
    (lib.mkIf (cfg.rosetta.enable || cfg.qemuUser.enable) [ "x86_64-linux" ])
  ];
}
