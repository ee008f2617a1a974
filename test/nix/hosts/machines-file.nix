# Text of /etc/nix/machines, as nix-darwin, NixOS and Determinate's module write it.
{ lib }:
let
  columns = list: if list == [ ] then "-" else lib.concatStringsSep "," list;
  orDash = value: if value == null then "-" else value;
in
lib.concatMapStrings (
  machine:
  toString [
    "${lib.optionalString (machine.protocol != null) "${machine.protocol}://"}${
      lib.optionalString (machine.sshUser != null) "${machine.sshUser}@"
    }${machine.hostName}"
    (if machine.system != null then machine.system else columns machine.systems)
    (orDash machine.sshKey)
    machine.maxJobs
    machine.speedFactor
    (columns (machine.supportedFeatures ++ machine.mandatoryFeatures))
    (columns machine.mandatoryFeatures)
    (orDash machine.publicHostKey)
  ]
  + "\n"
)
