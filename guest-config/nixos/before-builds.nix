# For units that do their work once, before the guest's nix-daemon can be reached.
{
  requiredBy = [ "nix-daemon.socket" ];
  before = [
    "nix-daemon.socket"
    "shutdown.target"
  ];
  conflicts = [ "shutdown.target" ];
  unitConfig.DefaultDependencies = false;
  serviceConfig = {
    Type = "oneshot";
    RemainAfterExit = true;
  };
}
