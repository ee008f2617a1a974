# The service. It does not depend on the configuration file's content: a change of that file reloads, and does
# not restart.
{ config, lib, ... }:
let
  cfg = config.services.drover;
  # Output before the log is opened, and in a crash.
  standardError = "/var/log/drover.stderr.log";
  log = cfg.settings.log.file or null;
in
{
  config = lib.mkIf cfg.enable {
    launchd.daemons.drover = {
      command = "${cfg.package}/bin/drover serve --config /etc/drover/drover.yaml";
      # Stable names, so that an update of Nix does not restart it. Nix itself is only started if no
      # nix-daemon listens.
      path = [
        "/run/current-system/sw/bin"
        "/nix/var/nix/profiles/default/bin"
        "/usr/bin"
        "/bin"
        "/usr/sbin"
        "/sbin"
      ];
      # A small young generation: 10 MB less memory while idle (docs/adr/0017).
      environment.NODE_OPTIONS = "--max-semi-space-size=1";
      serviceConfig = {
        RunAtLoad = true;
        KeepAlive = true;
        # No throttling of processors and disks: users wait for builds.
        ProcessType = "Interactive";
        # One for each connection, and for each file of the store that a guest has open.
        SoftResourceLimits.NumberOfFiles = 65536;
        # Seconds from SIGTERM to SIGKILL. By default Drover lets builds end for a minute (pool.drainTimeout).
        ExitTimeOut = 120;
        StandardErrorPath = standardError;
        StandardOutPath = standardError;
      };
    };

    # The supervisor reopens its log on SIGHUP. launchd keeps its file open, so that one is not compressed:
    # its text would be lost until the service restarts.
    environment.etc."newsyslog.d/drover.conf".text = ''
      # logfilename [owner:group] mode count size(KiB) when flags [/pid_file] [sig_num]
    ''
    + lib.optionalString (log != null) ''
      ${log} root:wheel 640 5 10240 * J ${cfg.settings.stateDir}/drover.pid
    ''
    + ''
      ${standardError} root:wheel 640 2 1024 * N
    '';
  };
}
