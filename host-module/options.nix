# Options of both host modules, for nix-darwin and for NixOS. Where nix-darwin's `nix.linux-builder` has an option of the
# same meaning, its name is used.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    literalExpression
    mkEnableOption
    mkOption
    types
    ;
  inherit (import ./types.nix { inherit lib; })
    directory
    duration
    listen
    size
    word
    ;
  cfg = config.services.drover;
in
{
  options.services.drover = {
    enable = mkEnableOption "Drover, throw-away Linux builders for Nix";

    package = mkOption {
      type = types.package;
      default =
        pkgs.drover or (throw ''
          services.drover.package: there is no pkgs.drover. Import the module from Drover's flake, add the flake's
          overlays.default to nixpkgs.overlays, or set services.drover.package.'');
      defaultText = literalExpression "pkgs.drover";
      description = "The Drover to run.";
    };

    systems = mkOption {
      type = types.nonEmptyListOf word;
      description = "Nix systems that are built in guests.";
    };

    supportedFeatures = mkOption {
      type = types.listOf word;
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
        How many builds guests have room for. Nix is told of ${toString (import ./queued-jobs.nix)} more: when all jobs
        of a machine are taken, it does not wait for one to end, but looks again every five seconds, and guests would
        stand idle in between. Builds beyond those that there is room for wait in Drover, in order.
      '';
    };

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
      type = size;
      description = "Memory of one guest that is a machine of its own. A guest takes of it what it touches.";
    };

    scratchSize = mkOption {
      type = size;
      description = ''
        How much one guest can write: outputs, build directories, everything. A bound, not a reservation.
      '';
    };

    metrics.listen = mkOption {
      type = types.nullOr listen;
      default = "127.0.0.1:9419";
      description = "Where metrics are served for Prometheus; null: nowhere.";
    };

    ssh = {
      enable = mkEnableOption "the ssh door, for Nix on other machines";

      listen = mkOption {
        type = listen;
        default = "127.0.0.1:31122";
        example = "[::]:31122";
        description = "Where the ssh door listens.";
      };

      authorizedKeys = mkOption {
        type = types.listOf types.singleLineStr;
        default = [ ];
        example = [ "ssh-ed25519 AAAAC3Nza... root@laptop" ];
        description = "Public keys of those who may build: usually, of the root user of each machine.";
      };

      identityFile = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "/etc/nix/drover_ed25519";
        description = ''
          Private key, outside of the store, with which this host itself uses the ssh door; its public half is one of
          {option}`services.drover.ssh.authorizedKeys`. null: ssh's own choice.
        '';
      };
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

    workingDirectory = mkOption {
      type = directory;
      default = "/var/lib/drover";
      description = "Where Drover keeps everything that it writes. Only root can enter it.";
    };

    guest = {
      config = mkOption {
        type = types.deferredModule;
        default = { };
        example = literalExpression ''
          { security.pki.certificateFiles = [ ./company-ca.pem ]; }
        '';
        description = ''
          NixOS configuration of guests that are machines of their own, beyond what Drover sets. A change makes a
          new image, for which Linux is needed: the guests of before build it.
        '';
      };

      build = mkOption {
        type = types.nullOr (types.functionTo types.package);
        default = null;
        internal = true;
        description = "From a list of NixOS modules to a guest image. Set by Drover's flake.";
      };

      image = mkOption {
        type = types.nullOr types.path;
        default =
          if cfg.guest.build == null then null else "${cfg.guest.build [ cfg.guest.config ]}/manifest.json";
        defaultText = literalExpression "an image of Drover's flake, with config.services.drover.guest.config";
        description = "Manifest of the image that guests boot from.";
      };
    };

    settings = mkOption {
      type = import ./settings.nix { inherit lib pkgs; };
      default = { };
      example = {
        pool.maxAge = "12h";
        log.level = "debug";
      };
      description = ''
        Configuration file, in which every key can be set that Drover knows. What is set here has precedence over
        what follows from all other options.
      '';
    };

    configFile = mkOption {
      type = types.path;
      internal = true;
      readOnly = true;
      description = "The configuration file, which was checked when it was built.";
    };
  };
}
