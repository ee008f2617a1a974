# Options of Macs only, and Mac-specific parts of the common options.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.drover;
in
{
  options.services.drover = {
    rosetta = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether guests run x86_64 programs: by Rosetta where it is installed (`softwareupdate --install-rosetta`), else
          by QEMU's user emulator, many times slower. `settings.guest.x86_64` chooses among them.
        '';
      };

      cache = mkOption {
        type = types.bool;
        default = false;
        description = ''
          Whether Rosetta's translations are kept while the guest lives (macOS 14). Builds are known to fail with it.
        '';
      };
    };

    nestedVirtualization = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether guests have a /dev/kvm, so that builds can ask for the features `kvm` and `nixos-test`, as NixOS tests
        do. Takes macOS 15 and an M3 or later.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    services.drover = {
      systems = lib.mkOptionDefault (
        [ "aarch64-linux" ] ++ lib.optional cfg.rosetta.enable "x86_64-linux"
      );
      supportedFeatures = lib.mkOptionDefault (
        [
          "benchmark"
          "big-parallel"
        ]
        ++ lib.optionals cfg.nestedVirtualization [
          "kvm"
          "nixos-test"
        ]
      );
      # For which nothing has to be built.
      guest.image = lib.mkIf (cfg.guest.build != null && cfg.guest.config == null) (
        lib.mkDefault "release"
      );
      # By the size of the Mac: a quarter of its memory, from 2 to 8 GiB.
      memory = lib.mkOptionDefault null;
      # Sparse: an upper bound, not a reservation.
      scratchSize = lib.mkOptionDefault "50GiB";
      settings = {
        driver = lib.mkDefault "vz";
        guest = {
          rosetta.enable = lib.mkDefault cfg.rosetta.enable;
          rosetta.cache = lib.mkDefault cfg.rosetta.cache;
          nestedVirtualization = lib.mkDefault cfg.nestedVirtualization;
        };
        log.file = lib.mkDefault "/var/log/drover.log";
      };
    };
  };
}
