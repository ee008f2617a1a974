# From the kernel, which is booted directly, to the guest's own root: as little as possible, without waiting.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
{
  boot = {
    loader.grub.enable = false;
    # All devices of a guest are virtio, on PCI.
    initrd.includeDefaultModules = false;
    initrd.kernelModules = [
      "virtio_pci"
      "virtio_console"
      "virtio_blk"
      "virtiofs"
      "overlay"
      "ext4"
    ];
    # Reading a larger file from the host's memory takes less time than decompression.
    initrd.compressor = "cat";

    kernelParams = lib.mkAfter [
      "quiet"
      # A panic ends the guest instead of leaving it hanging, after a second in which the host reads the
      # reason from the console.
      "panic=1"
      "cryptomgr.notests"
      "audit=0"
      "nowatchdog"
      # Besides, systemd takes 0.2 s to set up the BPF module, twice, for a setting that nothing here has.
      "lsm=landlock,yama"
      # Otherwise systemd asks the console for its size, and waits up to a second for an answer that never comes.
      "TERM=dumb"
      # Passed on to systemd by the kernel. After five changes of the mount table, systemd mounts nothing for
      # the rest of that second, which a boot would run into twice.
      "SYSTEMD_DEFAULT_MOUNT_RATE_LIMIT_BURST=1000"
      # A device of the contract that is not there is missing; but on a busy host, or emulated, a guest needs over
      # ten seconds to see those that are. Less than pool.bootTimeout is by default: the guest can say what is missing.
      "systemd.default_device_timeout_sec=45"
    ];

    initrd.systemd = {
      enable = true;
      emergencyAccess = false;
      # Reports the failed units, and ends: no user is there to help.
      services.drover-boot-failed = {
        description = "End of a guest that does not boot";
        wantedBy = [ "emergency.target" ];
        unitConfig.DefaultDependencies = false;
        serviceConfig = {
          Type = "oneshot";
          ExecStart = "${pkgs.runtimeShell} ${../boot-failed.sh}";
        };
        path = [ config.boot.initrd.systemd.package ];
      };
      storePaths = [
        pkgs.runtimeShell
        "${../boot-failed.sh}"
        "${config.boot.initrd.systemd.package}/bin/journalctl"
        "${config.boot.initrd.systemd.package}/bin/systemctl"
      ];
    }
    # Hardware that no guest has.
    // (
      if options.boot.initrd.systemd ? tpm2 then { tpm2.enable = false; } else { enableTpm2 = false; }
    )
    // lib.optionalAttrs (options.boot.initrd.systemd ? fido2) { fido2.enable = false; };
  };

  systemd = {
    enableEmergencyMode = false;
    # No getty on the console, no search for partitions, and no sshd except ssh.nix's, whose port this one
    # would take.
    generators = lib.genAttrs [
      "systemd-getty-generator"
      "systemd-gpt-auto-generator"
      "systemd-ssh-generator"
    ] (_: "/dev/null");
    services.drover-up = {
      description = "Word that the guest is up";
      wantedBy = [ "multi-user.target" ];
      after = [ "sockets.target" ];
      serviceConfig = {
        Type = "oneshot";
        ExecStart = "${pkgs.runtimeShell} ${../guest-up.sh}";
      };
    };
  }
  // lib.optionalAttrs (options.systemd ? tpm2) { tpm2.enable = false; };
}
