# The registration of Drover with Nix: the output of `drover machines`, in the form of nix.buildMachines.
{ cfg, lib }:
let
  # Jobs advertised beyond those that guests have room for; as in src/cli/commands/machines.ts.
  queuedJobs = 128;

  inherit (cfg.settings) doors;
  # The link that the supervisor makes beside its socket.
  connect = "${dirOf doors.socket.path}/connect";
  encodedPath = lib.replaceStrings [ "%2F" ] [ "/" ] (lib.escapeURL connect);
  columns = list: if list == [ ] then "-" else lib.concatStringsSep "," list;

  bySocket = {
    # For the host `localhost` Nix runs the program, and no ssh.
    hostName = "localhost?remote-program=${encodedPath}";
  };
  bySsh = {
    # The same, with an ssh that shares one connection. Its address and its key are in ssh_config.
    hostName = "localhost?remote-program=ssh%20drover-shared%20nix-daemon";
  };
  entry = {
    protocol = "ssh-ng";
    sshKey = null;
    maxJobs = cfg.maxJobs + queuedJobs;
    supportedFeatures = lib.subtractLists cfg.mandatoryFeatures cfg.settings.features;
    inherit (cfg) speedFactor mandatoryFeatures;
    inherit (cfg.settings) systems;
  }
  // (if cfg.door == "ssh" then bySsh else bySocket);
in
{
  inherit queuedJobs;

  # For nix.buildMachines.
  inherit entry;

  # For a machines file that no module writes.
  line = toString [
    "${entry.protocol}://${entry.hostName}"
    (columns entry.systems)
    (if entry.sshKey == null then "-" else entry.sshKey)
    entry.maxJobs
    entry.speedFactor
    (columns (entry.supportedFeatures ++ entry.mandatoryFeatures))
    (columns entry.mandatoryFeatures)
    "-"
  ];
}
