# The guest's Nix. Most of its settings come from the driver, with the guest's identity.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  # Not reachable for builds: ports below 1024 are for root to listen on, and see RestrictAddressFamilies below.
  vsockPort = 23;
in
{
  nix = {
    enable = true;
    channel.enable = false;
    gc.automatic = false;
    nrBuildUsers = 128;
    settings = {
      substituters = lib.mkForce [ ];
      trusted-public-keys = lib.mkForce [ ];
      trusted-users = [ "root" ];
      # Hard links do not work across the layers of an overlay.
      auto-optimise-store = false;
    };
    # The driver's settings override the ones before them; paths that modules add to the sandbox must not be
    # lost.
    extraOptions = lib.mkAfter ''
      !include /run/drover/nix.conf
      extra-sandbox-paths = ${toString (config.nix.settings.extra-sandbox-paths or [ ])}
    '';
  };

  systemd.services.nix-daemon = lib.mkMerge [
    (import ./vital.nix { inherit pkgs; } "nix-daemon")
    {
      requires = [ "drover-identity.service" ];
      after = [ "drover-identity.service" ];
      environment.TMPDIR = "/build";
      serviceConfig = {
        # vsock knows no namespaces: a build could reach the host by it, or this guest's ports, as if it were the host.
        RestrictAddressFamilies = "~AF_VSOCK";
        # io_uring opens sockets that the filter above does not see. Programs that can use it do without on ENOSYS.
        SystemCallFilter = "~io_uring_setup io_uring_enter io_uring_register";
        SystemCallErrorNumber = "ENOSYS";
        # A build that takes too much memory ends without ending all others.
        OOMPolicy = "continue";
        # The daemon's output is shown with the boot's messages.
        StandardOutput = "journal+console";
        StandardError = "journal+console";
      };
    }
  ];
  boot.blacklistedKernelModules = [ "vsock_loopback" ];

  # Registers the paths of the guest's own system, which are in the lower store: otherwise Nix would take them
  # for leftovers, and remove one before building it.
  systemd.services.drover-registration = lib.mkMerge [
    (import ./vital.nix { inherit pkgs; } "the registration of its own system")
    (import ./once-before.nix "nix-daemon.socket")
    {
      description = "Registration of the guest's own system with its Nix";
      requiredBy = [ "nix-daemon.socket" ];
      after = [
        "drover-identity.service"
        # Where users are made at boot, the store's group is one of them.
        "systemd-sysusers.service"
      ];
      unitConfig.RequiresMountsFor = "/nix/store";
      serviceConfig.ExecStart = "${pkgs.runtimeShell} ${../load-registration.sh}";
      path = [ config.nix.package ];
    }
  ];

  # The host's connection to the daemon over vsock. The daemon itself would ask a Unix socket for the user at
  # its other end: the proxy there is root, and so trusted.
  systemd.sockets.drover-daemon = {
    description = "vsock for the nix-daemon";
    wantedBy = [ "sockets.target" ];
    requires = [ "nix-daemon.socket" ];
    after = [ "nix-daemon.socket" ];
    socketConfig.ListenStream = "vsock::${toString vsockPort}";
  };
  systemd.services.drover-daemon = {
    description = "Proxy from vsock to the nix-daemon";
    serviceConfig = {
      ExecStart = "${config.systemd.package}/lib/systemd/systemd-socket-proxyd --connections-max=4096 /nix/var/nix/daemon-socket/socket";
      Nice = -10;
    };
  };
}
