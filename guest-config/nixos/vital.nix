# For units that a guest is of no use without: when one ends, the guest says so on its console, where the supervisor looks
# for the reason, and is gone. An orderly shutdown would only take time.
{ pkgs }:
name: {
  unitConfig = {
    FailureAction = "poweroff-force";
    SuccessAction = "poweroff-force";
  };
  serviceConfig.ExecStopPost = "${pkgs.runtimeShell} ${../unit-ended.sh} ${name}";
}
