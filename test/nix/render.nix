# Texts of files that NixOS makes of its options, for those parts of them that Drover's modules use.
{ lib }:
let
  value = v: if builtins.isBool v then lib.boolToString v else toString v;
  # A list is one line for each of its items, as in `toINI` with `listsAsDuplicateKeys`.
  section =
    name: settings:
    lib.optionalString (settings != { }) (
      "[${name}]\n"
      + lib.concatLines (
        lib.concatLists (
          lib.mapAttrsToList (key: v: map (one: "${key}=${value one}") (lib.toList v)) (
            lib.filterAttrs (_: v: v != null) settings
          )
        )
      )
    );
  list =
    key: unit:
    lib.optionalAttrs (unit.${key} or [ ] != [ ]) { ${directives.${key}} = toString unit.${key}; };
  directives = {
    after = "After";
    before = "Before";
    requires = "Requires";
    requisite = "Requisite";
    wants = "Wants";
    bindsTo = "BindsTo";
    partOf = "PartOf";
    conflicts = "Conflicts";
    onFailure = "OnFailure";
  };
  unitSection =
    unit:
    section "Unit" (
      lib.optionalAttrs (unit ? description) { Description = unit.description; }
      // lib.optionalAttrs (unit ? documentation) { Documentation = toString unit.documentation; }
      // lib.optionalAttrs (unit ? startLimitIntervalSec) {
        StartLimitIntervalSec = unit.startLimitIntervalSec;
      }
      // lib.concatMapAttrs (key: _: list key unit) directives
      // (unit.unitConfig or { })
    );
  install =
    unit:
    section "Install" (
      lib.optionalAttrs (unit.wantedBy or [ ] != [ ]) { WantedBy = toString unit.wantedBy; }
    );
in
{
  # systemd.services.<name> → the text of its unit. `path` and `script` are NixOS's affair, and left out.
  serviceText =
    unit:
    unitSection unit
    + section "Service" (
      lib.optionalAttrs (unit.environment or { } != { }) {
        Environment = lib.mapAttrsToList (name: v: builtins.toJSON "${name}=${value v}") unit.environment;
      }
      // (unit.serviceConfig or { })
    )
    + install unit;
  socketText =
    unit:
    unitSection unit
    + section "Socket" (
      lib.optionalAttrs (unit.listenStreams or [ ] != [ ]) { ListenStream = unit.listenStreams; }
      // (unit.socketConfig or { })
    )
    + install unit;
  mountText = unit: unitSection unit + section "Mount" (unit.mountConfig or { });

  # fileSystems → the text of /etc/fstab: those that others are mounted on come first.
  fstab =
    fileSystems:
    lib.concatLines (
      lib.mapAttrsToList (
        mountPoint: fs:
        toString [
          (fs.device or "none")
          mountPoint
          (fs.fsType or "auto")
          (lib.concatStringsSep "," (fs.options or [ "defaults" ]))
          "0"
          "0"
        ]
      ) fileSystems
    );
}
