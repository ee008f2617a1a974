# For units that a guest cannot work without: when one ends, the guest reports it on its console, where the
# supervisor looks for the reason, and powers off. An orderly shutdown would only take time.
{ pkgs }:
name: {
  unitConfig = {
    FailureAction = "poweroff-force";
    SuccessAction = "poweroff-force";
  };
  serviceConfig.ExecStopPost = "${pkgs.runtimeShell} ${../unit-ended.sh} ${name}";
}
