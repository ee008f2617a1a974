# A Mac's configuration with Drover, evaluated down to what ends up in files.
{
  # A module, as a user would write it.
  configuration,
  system ? "aarch64-darwin",
  # Modules of others that it uses besides.
  extraModules ? [ ],
  # As the flake does.
  hasFlake ? true,
}:
let
  lib = import ./lib.nix;
  pkgs = import ./packages.nix {
    inherit lib system;
    extra = lib.optionalAttrs hasFlake { drover = pkgs.package "drover-1.0" { }; };
  };
  inherit
    (lib.evalModules {
      modules = [
        ./hosts/darwin.nix
        ../../darwin-module
        configuration
        { _module.args = { inherit pkgs; }; }
      ]
      ++ extraModules
      ++ lib.optional hasFlake {
        services.drover.guest = {
          build = modules: pkgs.package "image-with-${toString (lib.length modules)}-modules" { };
          release = lib.mkDefault (pkgs.package "drover-guest-release-1.0" { });
        };
      };
    })
    config
    options
    ;
  optionNames = lib.concatMap (
    option:
    if lib.isOption option then
      [ (lib.concatStringsSep "." (lib.drop 2 option.loc)) ]
    else
      optionNames (lib.attrValues option)
  );
  # Options that are not plain values, and those that only Drover's flake sets.
  notPlain = [
    "configFile"
    "guest.build"
    "guest.config"
    "guest.followsNixpkgs"
    "guest.image"
    "guest.manifest"
    "guest.release"
    "package"
    "settings"
  ];
  valueOf =
    name:
    builtins.foldl' (set: key: set.${key}) cfg (
      builtins.filter builtins.isString (builtins.split "\\." name)
    );
  machinesFile = import ./hosts/machines-file.nix { inherit lib; };
  etc = lib.mapAttrs (_: file: file.text) config.environment.etc;
  cfg = config.services.drover;
in
lib.optionalAttrs cfg.enable {
  inherit (cfg) settings maxJobs;
  configFile = cfg.configFile.text;
  values = lib.genAttrs (lib.filter (name: !lib.elem name notPlain) (
    optionNames (lib.attrValues options.services.drover)
  )) valueOf;
}
// {
  # Names of our own.
  options = optionNames (lib.attrValues options.services.drover);
  failed = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);
  inherit (config) warnings;
  inherit (config.launchd) daemons;
  inherit etc;
  packages = map (package: package.name) config.environment.systemPackages;
  nixSettings = config.nix.settings;
  inherit (config.nix) distributedBuilds;
  machines = machinesFile config.nix.buildMachines + etc."nix/machines" or "";
  determinate =
    if config ? determinateNix then
      {
        machines = machinesFile config.determinateNix.buildMachines;
        inherit (config.determinateNix) distributedBuilds customSettings;
        nativeBuilder = config.determinateNix.determinateNixd.builder.state;
      }
    else
      null;
  checks = config.system.checks.text;
  activation = config.system.activationScripts.extraActivation.text;
}
