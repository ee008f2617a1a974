# Additions of `drover vm`, for the person whose machine this is: a shell on the console, and a directory of the host.
# Both exist only if the kernel's parameters say so, so guests that build have neither.
{ pkgs, ... }:
{
  systemd.services.drover-console = {
    description = "A shell on the console";
    wantedBy = [ "multi-user.target" ];
    after = [ "share.mount" ];
    unitConfig.ConditionKernelCommandLine = "drover.console";
    serviceConfig = {
      # After the messages of the boot.
      Type = "idle";
      ExecStart = "${pkgs.runtimeShell} ${../console-shell.sh} ${pkgs.bashInteractive}/bin/bash";
      StandardInput = "tty";
      StandardOutput = "tty";
      TTYPath = "/dev/console";
      TTYReset = true;
      Restart = "always";
      RestartSec = 0;
    };
    path = [ pkgs.coreutils ];
  };

  systemd.mounts = [
    {
      description = "The directory that drover vm --share names";
      what = "share";
      where = "/share";
      type = "virtiofs";
      wantedBy = [ "multi-user.target" ];
      unitConfig.ConditionKernelCommandLine = "drover.share";
    }
  ];
}
