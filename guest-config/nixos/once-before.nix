# For units that do their work once in the life of a guest, before the unit of this name.
unit: {
  before = [
    unit
    "shutdown.target"
  ];
  conflicts = [ "shutdown.target" ];
  unitConfig.DefaultDependencies = false;
  serviceConfig = {
    Type = "oneshot";
    RemainAfterExit = true;
  };
}
