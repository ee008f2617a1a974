# A guest as a NixOS system, of a nixpkgs and more modules.
{
  nixpkgs,
  system,
  modules ? [ ],
}:
import (nixpkgs + "/nixos/lib/eval-config.nix") {
  inherit system;
  modules = [ ../guest-config/nixos ] ++ modules;
}
