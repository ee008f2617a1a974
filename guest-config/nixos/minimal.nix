# A minimal NixOS for a machine without logins that never changes and lives for minutes.
{
  lib,
  modulesPath,
  options,
  ...
}:
{
  imports = [
    (modulesPath + "/profiles/minimal.nix")
    # /etc is an image that contains the users: a boot has no work to do for either.
    (modulesPath + "/profiles/perlless.nix")
  ];

  system = {
    etc.overlay = {
      enable = true;
      mutable = false;
    };
    switch.enable = false;
    disableInstallerTools = true;
    stateVersion = lib.mkDefault lib.trivial.release;
  };
  users = {
    mutableUsers = false;
    allowNoPasswordLogin = true;
  };
  # Empty: systemd keeps one in memory, and takes no boot for the first one. Newer releases of NixOS do this themselves.
  environment.etc.machine-id = lib.mkOverride 1100 {
    text = "";
    mode = "0444";
  };

  console.enable = false;
  documentation.enable = false;
  fonts.fontconfig.enable = false;
  powerManagement.enable = false;
  programs.nano.enable = false;
  security = {
    polkit.enable = lib.mkDefault false;
    sudo.enable = lib.mkDefault false;
  };
  services = {
    journald.storage = "volatile";
    lvm.enable = false;
    nscd.enable = false;
    timesyncd.enable = false; # see drover-guest's set-clock
  }
  # Newer releases of NixOS create users at boot, too late for early units, unless told that there is only one
  # boot.
  // lib.optionalAttrs (options.services ? userborn.static) { userborn.static = true; };
  system.nssModules = lib.mkForce [ ]; # they are nscd's
  boot.swraid.enable = lib.mkDefault false;
  systemd = {
    coredump.enable = false;
    oomd.enable = false;
    shutdownRamfs.enable = false;
    # The state that these keep, check or update is gone with the guest, or never existed.
    services =
      lib.genAttrs
        [
          "audit"
          "linger-users"
          "mount-pstore"
          "network-local-commands"
          "suid-sgid-wrappers"
          "systemd-hwdb-update"
          "systemd-journal-catalog-update"
          "systemd-journal-flush"
          "systemd-logind"
          "systemd-pstore"
          "systemd-random-seed"
          "systemd-update-done"
          "systemd-update-utmp"
          "systemd-user-sessions"
        ]
        (_: {
          enable = false;
        });
  };
  nixpkgs.flake = {
    setNixPath = false;
    setFlakeRegistry = false;
  };
}
