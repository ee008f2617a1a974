# Type of `services.drover.settings`: anything, but those keys that the modules themselves read are checked.
{ lib, pkgs }:
let
  inherit (lib) mkOption types;
  inherit (import ./types.nix { inherit lib; }) listen path;
  key =
    type:
    mkOption {
      inherit type;
      visible = false;
    };
in
types.submodule {
  freeformType = (pkgs.formats.json { }).type;
  options = {
    stateDir = key path;
    systems = key (types.listOf types.str);
    features = key (types.listOf types.str);
    pool.maxGuests = key types.ints.positive;
    pool.warmGuests = key types.ints.unsigned;
    pool.jobsPerGuest = key types.ints.positive;
    doors.socket.path = key types.str;
    doors.ssh.listen = key listen;
    doors.ssh.authorizedKeys = key (types.listOf types.str);
    doors.ssh.clients = key (types.listOf (types.attrsOf types.anything));
    log.file = key (types.nullOr path) // {
      default = null;
    };
  };
}
