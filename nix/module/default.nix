# The common part of the modules for nix-darwin and for NixOS.
{
  imports = [
    ./options/general.nix
    ./options/guest.nix
    ./options/machine.nix
    ./options/pool.nix
    ./options/ssh.nix
    ./config.nix
  ];
}
