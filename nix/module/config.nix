# The common part of both host modules' configuration.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.drover;
  json = (pkgs.formats.json { }).generate "drover.yaml" cfg.settings;
in
{
  config = lib.mkIf cfg.enable {
    services.drover.settings =
      lib.mapAttrsRecursive (_: lib.mkDefault) {
        stateDir = cfg.workingDirectory;
        inherit (cfg) systems;
        control = { inherit (cfg.control) group; };
        features = lib.unique (cfg.supportedFeatures ++ cfg.mandatoryFeatures);
        pool = {
          inherit (cfg)
            maxGuests
            warmGuests
            jobsPerGuest
            idleTimeout
            ;
        };
        guest = {
          inherit (cfg) cores;
        }
        // lib.optionalAttrs (cfg.memory != null) { inherit (cfg) memory; }
        // lib.optionalAttrs (cfg.scratchSize != null) { inherit (cfg) scratchSize; }
        // lib.optionalAttrs (cfg.guest.manifest != null) { image = cfg.guest.manifest; };
        doors.socket.path = "${cfg.settings.stateDir}/doors/nix.sock";
        doors.ssh = {
          inherit (cfg.ssh) listen;
          # No keys, no door.
          authorizedKeys = lib.optionals cfg.ssh.enable cfg.ssh.authorizedKeys;
          clients = lib.optionals cfg.ssh.enable cfg.ssh.clients;
        };
      }
      // {
        # A single value, so that it can be replaced by null.
        metrics = lib.mkDefault (
          if cfg.metrics.listen == null then
            null
          else
            { inherit (cfg.metrics) listen; }
            // lib.optionalAttrs (cfg.metrics.page != null) { inherit (cfg.metrics) page; }
        );
      };

    # JSON is YAML.
    services.drover.configFile =
      if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
        pkgs.runCommand "drover.yaml" { } ''
          ${cfg.package}/bin/drover check --config ${json}
          cp ${json} $out
        ''
      else
        json;

    assertions = import ./assertions.nix { inherit cfg lib; };

    warnings = lib.optional (!cfg.ssh.enable && cfg.ssh.authorizedKeys ++ cfg.ssh.clients != [ ]) ''
      services.drover.ssh.authorizedKeys or ssh.clients has keys, but there is no ssh door to use them with. Set
      services.drover.ssh.enable = true, or remove the keys.'';

    environment.systemPackages = [ cfg.package ];
    # The supervisor reads this path, and reloads it when it changes: so the service's own definition does not
    # change, and the service is not restarted.
    environment.etc."drover/drover.yaml".source = cfg.configFile;
  };
}
