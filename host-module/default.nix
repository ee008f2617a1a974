# What the modules for nix-darwin and for NixOS have in common.
{
  imports = [
    ./options.nix
    ./config.nix
  ];
}
