# The service. It does not depend on the configuration file's content: a change of that file reloads, and does
# not restart.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.drover;
  inherit (cfg.settings) stateDir;
  socketDir = dirOf cfg.settings.doors.socket.path;
  ownDirectories = [ stateDir ] ++ lib.optional (!lib.hasPrefix "${stateDir}/" socketDir) socketDir;
  log = cfg.settings.log.file or null;
in
{
  config = lib.mkIf cfg.enable {
    # The service may not load modules.
    boot.kernelModules = [ "overlay" ];

    systemd.tmpfiles.rules = map (path: "d ${path} 0700 root root - -") ownDirectories;

    systemd.services.drover = {
      description = "Drover, throw-away Linux builders for Nix";
      wantedBy = [ "multi-user.target" ];
      wants = [ "nix-daemon.socket" ];
      after = [
        "network.target"
        "nix-daemon.socket"
        # The systems that the kernel can emulate are read once.
        "systemd-binfmt.service"
      ];
      path = [
        config.nix.package
        pkgs.slirp4netns
        pkgs.util-linux
        # Statically linked: all the tools that a guest has.
        pkgs.pkgsStatic.busybox
        pkgs.sqlite
      ]
      ++ lib.optionals (cfg.driver == "qemu") [
        pkgs.qemu_kvm
        pkgs.virtiofsd
      ];
      # A small young generation: 10 MB less memory while idle (docs/adr/0017).
      environment.NODE_OPTIONS = "--max-semi-space-size=1";
      # Restarts after ten seconds, without limit: once a mistake in the configuration file is corrected, the
      # service starts by itself.
      startLimitIntervalSec = 0;
      serviceConfig = {
        Type = "exec";
        ExecStart = "${cfg.package}/bin/drover serve --config /etc/drover/drover.yaml";
        ExecReload = "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
        Restart = "always";
        RestartSec = 10;
        # Only the supervisor gets the signal: it lets builds end for a minute (pool.drainTimeout). Guests end
        # with it.
        KillMode = "mixed";
        TimeoutStopSec = 3600;
        # A build that takes too much memory must not end all others.
        OOMPolicy = "continue";
        # For the socket of control.group.
        RuntimeDirectory = "drover-control";
        TasksMax = "infinity";
        # Each guest has a cgroup below the service's.
        Delegate = "memory pids io";
        LimitNOFILE = 1048576;
      }
      // import ./hardening.nix {
        writablePaths = ownDirectories ++ lib.optional (log != null) (dirOf log);
      };
    };
  };
}
