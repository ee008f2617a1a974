# /nix/store is the host's, read-only, with a layer of the guest's own above it. Everything that is written goes to one
# scratch disk, so that drover-guest can tell how full it is; only / itself is in memory.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  exactStore = lib.getExe config.drover.guest.exactStore;
  scratch = "/dev/disk/by-id/virtio-drover-scratch";
  scratchDevice = "dev-disk-by\\x2did-virtio\\x2ddrover\\x2dscratch.device";
  # Not for a disk that is gone with the guest: times of access, barriers, inode tables zeroed in the background.
  scratchOptions = [
    "noatime"
    "barrier=0"
    "noinit_itable"
    "nodev"
    "nosuid"
  ];
in
{
  fileSystems = {
    "/" = {
      device = "tmpfs";
      fsType = "tmpfs";
      options = [ "mode=0755" ];
    };
    "/nix" = {
      device = scratch;
      fsType = "ext4";
      noCheck = true;
      neededForBoot = true;
      options = scratchOptions;
    };
    # Below /nix/.host, which drover-exact-store mounts.
    "/nix/.share" = {
      device = "nix-store";
      fsType = "virtiofs";
      noCheck = true;
      neededForBoot = true;
      options = [ "ro" ];
    };
    "/nix/store" = {
      overlay = {
        lowerdir = [ "/nix/.host" ];
        upperdir = "/nix/.scratch/upper";
        workdir = "/nix/.scratch/work";
      };
      neededForBoot = true;
    };
    # Where the driver's nix.conf has builds done.
    "/build" = {
      device = "/nix/.scratch/build";
      fsType = "none";
      options = [ "bind" ];
    };
    "/tmp" = {
      device = "/nix/.scratch/tmp";
      fsType = "none";
      options = [ "bind" ];
    };
  };

  boot = {
    initrd = {
      systemd = {
        services.drover-scratch = {
          description = "A file system on the scratch disk";
          requires = [ scratchDevice ];
          after = [ scratchDevice ];
          requiredBy = [ "sysroot-nix.mount" ];
          before = [ "sysroot-nix.mount" ];
          unitConfig.DefaultDependencies = false;
          serviceConfig = {
            Type = "oneshot";
            RemainAfterExit = true;
            ExecStart = "${pkgs.runtimeShell} ${../format-scratch.sh} ${scratch}";
          };
          path = [ pkgs.e2fsprogs ];
        };
        services.drover-exact-store = {
          description = "The host's store, exactly as Nix made it";
          requires = [ "sysroot-nix-.share.mount" ];
          after = [ "sysroot-nix-.share.mount" ];
          requiredBy = [ "sysroot-nix-store.mount" ];
          before = [ "sysroot-nix-store.mount" ];
          unitConfig = {
            DefaultDependencies = false;
            # It serves the root file system from here on.
            IgnoreOnIsolate = true;
          };
          serviceConfig = {
            Type = "oneshot";
            RemainAfterExit = true;
            # Its end is not that of the program.
            KillMode = "process";
            ExecStart = "${pkgs.runtimeShell} ${../exact-store.sh} ${exactStore} /sysroot/nix/.share /sysroot/nix/.host";
          };
          path = [
            pkgs.coreutils
            pkgs.util-linux
          ];
        };
        storePaths = [
          "${../exact-store.sh}"
          exactStore
          "${pkgs.coreutils}/bin"
          "${pkgs.util-linux}/bin/mount"
          "${../format-scratch.sh}"
          "${pkgs.e2fsprogs}/bin/mke2fs"
        ];
      };
    };
  }
  # The guest's Nix writes to the store; and drover-guest remounts it, to forget what it has not seen there, which would
  # make it read-only for good.
  // (
    if options.boot ? nixStoreMountOpts then
      { nixStoreMountOpts = lib.mkForce [ ]; }
    else
      { readOnlyNixStore = false; }
  );
}
