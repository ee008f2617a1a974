# Drover for NixOS: `services.drover`. The flake's nixosModules.default is this, with a package.
{
  imports = [
    ../nix/module
    ./options.nix
    ./service.nix
    ./nix.nix
  ];
}
