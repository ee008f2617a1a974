# A Mac's whole system with Drover, for scripts/ci/mac-service.sh to activate.
{ flake, image }:
let
  drover = builtins.getFlake flake;
in
(drover.inputs.nix-darwin.lib.darwinSystem {
  modules = [
    drover.darwinModules.default
    {
      nixpkgs.hostPlatform = "aarch64-darwin";
      system.stateVersion = 6;
      # The runner's own Nix stays as it is.
      nix.enable = false;
      services.drover = {
        enable = true;
        guest.image = image;
      };
    }
  ];
}).system
