# A guest as a NixOS system, from a nixpkgs and further modules.
{
  nixpkgs,
  system,
  modules ? [ ],
}:
import (nixpkgs + "/nixos/lib/eval-config.nix") {
  inherit system;
  modules = [ ../guest-config/nixos ] ++ modules;
}
