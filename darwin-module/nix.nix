# Registration of Drover with Nix on this Mac: by nix-darwin, by Determinate's module, or, if neither manages
# Nix (`nix.enable = false`), by a machines file that Nix reads unless its `builders` setting says otherwise.
{
  config,
  lib,
  options,
  ...
}:
let
  cfg = config.services.drover;
  machine = import ../nix/module/machine.nix { inherit cfg lib; };
  isRegistered = cfg.enable && cfg.door != null;

  hasDeterminate = options ? determinateNix.buildMachines;
  byDeterminate = hasDeterminate && config.determinateNix.enable;
  byNixDarwin = config.nix.enable && !byDeterminate;
in
{
  config = lib.mkMerge (
    [
      (lib.mkIf (isRegistered && byNixDarwin) {
        nix.distributedBuilds = true;
        nix.buildMachines = [ machine.entry ];
        nix.settings.builders-use-substitutes = lib.mkDefault true;
      })
      (lib.mkIf (isRegistered && !byNixDarwin && !byDeterminate) {
        environment.etc."nix/machines".text = "${machine.line}\n";
      })
      (lib.mkIf (cfg.enable && cfg.ssh.enable) {
        environment.etc."ssh/ssh_config.d/100-drover.conf".text = import ../nix/module/ssh-config.nix {
          inherit cfg lib;
        };
      })
    ]
    ++ lib.optional hasDeterminate (
      lib.mkIf (isRegistered && byDeterminate) {
        determinateNix = {
          distributedBuilds = true;
          buildMachines = [ machine.entry ];
          customSettings.builders-use-substitutes = lib.mkDefault true;
        }
        # Their own builder is for the same systems.
        // lib.optionalAttrs (options ? determinateNix.determinateNixd) {
          determinateNixd.builder.state = lib.mkDefault "disabled";
        };
      }
    )
  );
}
