# Type of `services.drover.settings`: anything, but those keys that the modules themselves read are checked.
{ lib, pkgs }:
let
  inherit (lib) mkOption types;
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
    stateDir = key types.str;
    systems = key (types.listOf types.str);
    features = key (types.listOf types.str);
    pool.maxGuests = key types.ints.positive;
    pool.warmGuests = key types.ints.unsigned;
    pool.jobsPerGuest = key types.ints.positive;
    doors.socket.path = key types.str;
    doors.ssh.listen = key types.str;
    doors.ssh.authorizedKeys = key (types.listOf types.str);
  };
}
