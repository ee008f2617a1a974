# Number and size of guests.
{ lib, ... }:
let
  inherit (lib) literalMD mkOption types;
  inherit (import ../types.nix { inherit lib; }) duration size;
in
{
  options.services.drover = {
    maxGuests = mkOption {
      type = types.ints.between 1 1024;
      default = 2;
      description = "How many guests there are at most, at the same time.";
    };

    warmGuests = mkOption {
      type = types.ints.between 0 1024;
      default = 0;
      description = "How many guests are kept booted while nothing builds.";
    };

    jobsPerGuest = mkOption {
      type = types.ints.between 1 1024;
      default = 4;
      description = "How many builds run at the same time in one guest.";
    };

    idleTimeout = mkOption {
      type = duration;
      default = "5m";
      description = "For how long a guest that builds nothing is kept.";
    };

    cores = mkOption {
      type = types.ints.between 0 1024;
      default = 0;
      description = "Cores of one guest, and of each build in it; 0: all of the host's.";
    };

    memory = mkOption {
      type = types.nullOr size;
      defaultText = literalMD "`null`";
      description = ''
        Memory of one guest, which takes of it what it touches. `null`: for a machine of its own a quarter of the host's, from
        2 to 8 GiB, else what fits the host.
      '';
    };

    scratchSize = mkOption {
      type = types.nullOr size;
      defaultText = literalMD ''`"50GiB"` on macOS, `null` on NixOS'';
      description = ''
        `null`: 20 GiB for a machine of its own, else what fits the host.

        How much one guest can write: outputs, build directories, everything. A bound, not a reservation; but a guest that
        is a machine of its own is refused where the host has less room.
      '';
    };
  };
}
