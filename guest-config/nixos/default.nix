# A guest as a NixOS system. What it has to do is the image contract, docs/images.md; which files boot it, image.nix says.
# Whoever wants more in it adds modules of their own.
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
    ./rosetta.nix
    ./network.nix
    ./image.nix
  ];
}
