# Evaluates a Mac's whole configuration with Drover, and builds nothing of it.
{
  nix-darwin,
  module,
  writeText,
}:
let
  system = nix-darwin.lib.darwinSystem {
    modules = [
      module
      {
        nixpkgs.hostPlatform = "aarch64-darwin";
        system.stateVersion = 6;
        services.drover = {
          enable = true;
          guest.config = { pkgs, ... }: { environment.systemPackages = [ pkgs.hello ]; };
        };
      }
    ];
  };
in
writeText "drover-darwin-system" (
  builtins.unsafeDiscardStringContext system.config.system.build.toplevel.drvPath
)
