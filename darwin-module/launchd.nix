# The service. Nothing in it depends on the configuration file's content: a change of that reloads, it restarts nothing.
{ config, lib, ... }:
let
  cfg = config.services.drover;
  # What comes before the log is opened, and what is left to say in a crash.
  standardError = "/var/log/drover.stderr.log";
  log = cfg.settings.log.file or null;
in
{
  config = lib.mkIf cfg.enable {
    launchd.daemons.drover = {
      command = "${cfg.package}/bin/drover serve --config /etc/drover/drover.yaml";
      # Stable names: an update of Nix is no reason to restart. Nix itself is only started where no nix-daemon listens.
      path = [
        "/run/current-system/sw/bin"
        "/nix/var/nix/profiles/default/bin"
        "/usr/bin"
        "/bin"
        "/usr/sbin"
        "/sbin"
      ];
      serviceConfig = {
        RunAtLoad = true;
        KeepAlive = true;
        # No throttling of processors and disks: people wait for builds.
        ProcessType = "Interactive";
        # One for each connection, and for each file of the store that a guest has open.
        SoftResourceLimits.NumberOfFiles = 65536;
        # Seconds from SIGTERM to SIGKILL. By default Drover lets builds end for a minute (pool.drainTimeout).
        ExitTimeOut = 120;
        StandardErrorPath = standardError;
        StandardOutPath = standardError;
      };
    };

    # The supervisor opens its log anew when it is told to, by SIGHUP. What launchd has opened stays open: it is not
    # compressed, which would lose what is written until the service starts again.
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
