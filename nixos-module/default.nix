# Drover for NixOS: `services.drover`. The flake's nixosModules.default is this, with a package.
{
  imports = [
    ../host-module
    ./options.nix
    ./service.nix
    ./nix.nix
  ];
}
