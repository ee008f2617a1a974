# Drover for nix-darwin: `services.drover`. The flake's darwinModules.default is this, with a package and a guest image.
{
  imports = [
    ../nix/module
    ./options.nix
    ./assertions.nix
    ./launchd.nix
    ./nix.nix
    ./activation.nix
  ];
}
