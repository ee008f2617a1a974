# Registration of Drover with Nix. The names are those of nix-darwin's `nix.linux-builder`.
{ config, lib, ... }:
let
  inherit (lib)
    literalExpression
    literalMD
    mkOption
    types
    ;
  inherit (import ../types.nix { inherit lib; }) word;
  inherit (import ../machine.nix { inherit cfg lib; }) queuedJobs;
  cfg = config.services.drover;
in
{
  options.services.drover = {
    systems = mkOption {
      type = types.nonEmptyListOf word;
      defaultText = literalMD "all that guests can build: on macOS `aarch64-linux` and, with Rosetta, `x86_64-linux`";
      description = "Nix systems that are built in guests.";
    };

    supportedFeatures = mkOption {
      type = types.listOf word;
      defaultText = literalMD "`benchmark`, `big-parallel` and, with `nestedVirtualization`, `kvm` and `nixos-test`";
      example = [ "big-parallel" ];
      description = ''
        System features that builds can ask for. Those of {option}`services.drover.mandatoryFeatures` are among them
        in any case.
      '';
    };

    mandatoryFeatures = mkOption {
      type = types.listOf word;
      default = [ ];
      example = [ "big-parallel" ];
      description = "System features that a build must ask for to be built in guests.";
    };

    speedFactor = mkOption {
      type = types.ints.positive;
      default = 1;
      description = "How fast guests are, compared to other build machines that this host's Nix knows. More is faster.";
    };

    maxJobs = mkOption {
      type = types.ints.positive;
      default = cfg.settings.pool.maxGuests * cfg.settings.pool.jobsPerGuest;
      defaultText = literalExpression "config.services.drover.maxGuests * config.services.drover.jobsPerGuest";
      description = ''
        How many builds guests have room for. Nix is told of ${toString queuedJobs} more: when all jobs
        of a machine are taken, it does not wait for one to end, but looks again every five seconds, and guests would
        stand idle in between. Builds beyond those that there is room for wait in Drover, in order.
      '';
    };

    door = mkOption {
      type = types.nullOr (
        types.enum [
          "socket"
          "ssh"
        ]
      );
      default = "socket";
      description = ''
        How this host's own Nix reaches Drover: through a Unix socket, which takes no key and no port, or through the
        ssh door. null: it does not, and Drover is there for other machines only.
      '';
    };
  };
}
