# A guest as a NixOS system. It implements the image contract, docs/images.md; image.nix defines the files
# that boot it. Users add modules of their own to extend it.
{
  imports = [
    ./options.nix
    ./minimal.nix
    ./boot.nix
    ./store.nix
    ./identity.nix
    ./nix-daemon.nix
    ./ssh.nix
    ./agent.nix
    ./translators.nix
    ./network.nix
    ./machine.nix
    ./image.nix
  ];
}
