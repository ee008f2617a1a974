# A guest's configuration, evaluated down to what ends up in files.
{
  # A module, as a user would write it.
  configuration ? { },
  system ? "aarch64-linux",
  # Whether it is evaluated with the options of a newer NixOS (25.05 and later), or with those before.
  newer ? true,
  # Whether all programs are where Debian has them: for guests that are there to try the units.
  isDebian ? false,
}:
let
  lib = import ./lib;
  render = import ./render.nix { inherit lib; };
  stub = import ./packages.nix {
    inherit lib system;
    names = [
      "bashInteractive"
      "busybox-sandbox-shell"
      "coreutils"
      "e2fsprogs"
      "findutils"
      "gawk"
      "gnugrep"
      "gnutar"
      "linuxPackages_6_1"
      "openssh"
      "util-linux"
    ];
  };
  debian =
    name:
    stub.package name { }
    // {
      outPath = "/usr";
    };
  package = if isDebian then debian else name: stub.package name { };
  pkgs = stub // {
    inherit (if isDebian then lib.genAttrs [ "openssh" "util-linux" ] debian else stub)
      openssh
      util-linux
      ;
    runtimeShell = if isDebian then "/usr/bin/bash" else "${stub.bash}/bin/bash";
    stdenv = stub.stdenv // {
      hostPlatform = stub.stdenv.hostPlatform // {
        inherit system;
      };
    };
    callPackage = _: arguments: stub.package "drover-guest-image" arguments;
    pkgsStatic.callPackage = _: _: stub.package "exact-store" { };
  };
  inherit
    (lib.evalModules {
      specialArgs.modulesPath = toString ./hosts/modules;
      modules = [
        (import ./hosts/guest.nix { inherit newer; })
        ../../guest-config/nixos
        configuration
        {
          _module.args = { inherit pkgs; };
          nix.package = package "nix-2.34.0";
          systemd.package = package "systemd-257";
          boot.initrd.systemd.package = package "systemd-257";
          system = {
            build = {
              toplevel = stub.package "system" { };
              kernel = stub.package "kernel" { };
              initialRamdisk = stub.package "initrd" { };
            };
            boot.loader = {
              kernelFile = "Image";
              initrdFile = "initrd";
            };
          };
        }
      ];
    })
    config
    ;
  enabled = lib.filterAttrs (_: unit: unit.enable);
  wanted = lib.mapAttrs (_: unit: unit.wantedBy ++ unit.requiredBy);
in
{
  fstab = render.fstab config.fileSystems;
  initrdFstab = render.fstab (
    lib.filterAttrs (name: fs: name == "/" || fs.neededForBoot) config.fileSystems
  );
  services = lib.mapAttrs (_: render.serviceText) (enabled config.systemd.services);
  sockets = lib.mapAttrs (_: render.socketText) config.systemd.sockets;
  initrdServices = lib.mapAttrs (_: render.serviceText) config.boot.initrd.systemd.services;
  wanted = wanted (enabled config.systemd.services // config.systemd.sockets);
  initrdWanted = wanted config.boot.initrd.systemd.services;
  disabled = lib.attrNames (lib.filterAttrs (_: unit: !unit.enable) config.systemd.services);
  inherit (config.systemd) mounts;
  udev = config.services.udev.extraRules;
  kernelParams = toString config.boot.kernelParams;
  inherit (config.boot) kernelModules;
  kernel = config.boot.kernelPackages.name or null;
  initrdModules = config.boot.initrd.kernelModules;
  inherit (config.boot) blacklistedKernelModules;
  nixConf = config.nix.extraOptions;
  emulated = config.boot.binfmt.emulatedSystems;
  nixSettings = config.nix.settings;
  chosen = {
    firewall = config.networking.firewall.enable;
    polkit = config.security.polkit.enable;
    sudo = config.security.sudo.enable;
  };
  buildUsers = config.nix.nrBuildUsers;
  root = config.users.users.root;
  makesUsersAtBoot = newer && !config.services.userborn.static;
  isWarned = newer && config.boot.initrd.systemd.enableTpm2 != null;
  readOnlyStore = config.boot.readOnlyNixStore or (config.boot.nixStoreMountOpts != [ ]);
  image = {
    inherit (config.system.build.droverImage)
      systems
      translators
      kernel
      initrd
      shell
      ;
  };
}
