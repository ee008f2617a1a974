# Options of NixOS, as far as guests set them: with their types, where these could be got wrong.
{ newer }:
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  atom = types.oneOf [
    types.bool
    types.int
    types.str
    types.path
    types.package
  ];
  list =
    type:
    mkOption {
      type = types.listOf type;
      default = [ ];
    };
  flag =
    default:
    mkOption {
      type = types.bool;
      inherit default;
    };
  settings = mkOption {
    type = types.attrsOf (types.either atom (types.listOf atom));
    default = { };
  };
  unit = {
    enable = flag true;
    description = mkOption {
      type = types.singleLineStr;
      default = "";
    };
    unitConfig = settings;
  }
  // lib.genAttrs [
    "wantedBy"
    "requiredBy"
    "wants"
    "requires"
    "before"
    "after"
    "conflicts"
  ] (_: list types.str);
  units = mkOption {
    type = types.attrsOf (
      types.submodule {
        options = unit // {
          path = list (types.either types.package types.str);
          environment = mkOption {
            type = types.attrsOf types.str;
            default = { };
          };
          serviceConfig = settings;
        };
      }
    );
    default = { };
  };
  sockets = mkOption {
    type = types.attrsOf (
      types.submodule {
        options = unit // {
          socketConfig = settings;
        };
      }
    );
    default = { };
  };

  fileSystem =
    { config, name, ... }:
    {
      options = {
        device = mkOption {
          type = types.nullOr types.str;
          default = null;
        };
        fsType = mkOption { type = types.str; };
        options = list types.str;
        neededForBoot = flag false;
        noCheck = flag false;
        overlay = {
          lowerdir = mkOption {
            type = types.nullOr (types.listOf types.str);
            default = null;
          };
          upperdir = mkOption {
            type = types.nullOr types.str;
            default = null;
          };
          workdir = mkOption {
            type = types.nullOr types.str;
            default = null;
          };
        };
      };
      # As NixOS has it.
      config = lib.mkMerge [
        (lib.mkIf (config.neededForBoot || name == "/") { options = [ "x-initrd.mount" ]; })
        (lib.mkIf (config.overlay.lowerdir != null) {
          device = lib.mkDefault "overlay";
          fsType = "overlay";
          options = [
            "lowerdir=${lib.concatMapStringsSep ":" (path: "/sysroot${path}") config.overlay.lowerdir}"
            "upperdir=/sysroot${config.overlay.upperdir}"
            "workdir=/sysroot${config.overlay.workdir}"
          ];
        })
      ];
    };
  # Merged as it comes.
  other = mkOption {
    type = types.undeclared;
    default = { };
  };
in
{
  options = {
    console = other;
    documentation = other;
    environment = other;
    fonts = other;
    networking = other;
    nixpkgs = other;
    powerManagement = other;
    programs = other;
    security = other;
    system = other;
    fileSystems = mkOption {
      type = types.attrsOf (types.submodule fileSystem);
      default = { };
    };
    boot = {
      kernelPackages = mkOption { default = { }; };
      binfmt.emulatedSystems = list types.str;
      kernelModules = list types.str;
      blacklistedKernelModules = list types.str;
      kernelParams = list types.str;
      loader = other;
      swraid = other;
      initrd = {
        kernelModules = list types.str;
        compressor = mkOption { type = types.str; };
        includeDefaultModules = flag true;
        systemd = {
          enable = flag false;
          emergencyAccess = flag false;
          services = units;
          storePaths = list (types.either types.str types.package);
          package = mkOption { type = types.package; };
        }
        // (
          if newer then
            {
              fido2.enable = flag true;
              tpm2.enable = flag true;
              # Its former name: setting it gives a warning.
              enableTpm2 = mkOption {
                type = types.nullOr types.bool;
                default = null;
              };
            }
          else
            { enableTpm2 = flag true; }
        );
      };
    }
    // (if newer then { nixStoreMountOpts = list types.str; } else { readOnlyNixStore = flag true; });
    systemd = {
      services = units;
      inherit sockets;
      mounts = mkOption {
        type = types.listOf (
          types.submodule {
            options =
              unit
              // lib.genAttrs [ "what" "where" "type" ] (_: mkOption { type = types.str; });
          }
        );
        default = [ ];
      };
      package = mkOption { type = types.package; };
      generators = mkOption { type = types.attrsOf types.str; };
      enableEmergencyMode = flag true;
      coredump = other;
      network = other;
      oomd = other;
      shutdownRamfs = other;
    };
    services = {
      udev.extraRules = mkOption {
        type = types.lines;
        default = "";
      };
    }
    // lib.optionalAttrs newer { userborn.static = flag false; }
    // lib.genAttrs [
      "journald"
      "lvm"
      "nscd"
      "resolved"
      "timesyncd"
    ] (_: other);
    nix = {
      package = mkOption { type = types.package; };
      extraOptions = mkOption {
        type = types.lines;
        default = "";
      };
      nrBuildUsers = mkOption { type = types.int; };
      enable = flag true;
      channel = other;
      gc = other;
      inherit settings;
    };
    users = {
      users = mkOption {
        type = types.attrsOf (
          types.submodule {
            options = {
              isSystemUser = flag false;
              group = mkOption {
                type = types.str;
                default = "";
              };
              description = mkOption {
                type = types.str;
                default = "";
              };
              hashedPassword = mkOption {
                type = types.nullOr types.str;
                default = null;
              };
              shell = mkOption {
                type = types.either types.str types.package;
                default = "/run/current-system/sw/bin/bash";
              };
            };
          }
        );
        default = { };
      };
      groups = other;
      mutableUsers = flag true;
      allowNoPasswordLogin = flag false;
    };
    virtualisation.rosetta = {
      enable = flag false;
      mountPoint = mkOption {
        type = types.str;
        default = "/run/rosetta";
      };
    };
  };

  config = {
    # nixpkgs' own module, as far as it matters here.
    fileSystems = lib.mkIf config.virtualisation.rosetta.enable {
      "/run/rosetta" = {
        device = "rosetta";
        fsType = "virtiofs";
      };
    };
    nix.settings = lib.mkIf config.virtualisation.rosetta.enable {
      extra-sandbox-paths = [
        "/run/binfmt"
        "/run/rosetta"
      ];
    };
  };
}
