# The checks of nix/verify.sh: each attribute has the evaluated value, and whether it is right.
{
  # Folders with their sources.
  nixpkgs,
  nix-darwin,
  determinate,
}:
let
  lib = import (nixpkgs + "/lib");
  guest = system: configuration: import ./guest.nix { inherit nixpkgs system configuration; };
  darwin =
    configuration: extraModules:
    import ./darwin.nix {
      inherit
        nixpkgs
        nix-darwin
        configuration
        extraModules
        ;
    };
  nixos = configuration: import ./nixos.nix { inherit nixpkgs configuration; };

  # A whole system without complaints, down to its derivation.
  isSound = system: drv: system.failed == [ ] && system.warnings == [ ] && lib.hasSuffix ".drv" drv;
  goodGuest =
    system:
    let
      it = guest system { };
    in
    {
      ok = isSound it it.image && lib.elem system it.systems;
      seen = {
        inherit (it)
          failed
          warnings
          image
          systems
          kernelParams
          fstab
          initrdFstab
          ;
      };
    };
  machine = "ssh-ng://localhost?remote-program=/var/lib/drover/doors/connect aarch64-linux,x86_64-linux - 136 1 benchmark,big-parallel";
  goodDarwin = it: more: {
    ok = isSound it it.toplevel && lib.hasPrefix machine it.machines && more;
    seen = {
      inherit (it)
        failed
        warnings
        machines
        newsyslog
        plist
        determinate
        nixCustomConf
        toplevel
        ;
    };
  };
  goodNixos = it: {
    ok = isSound it it.toplevel && lib.hasSuffix ".drv" it.vmTest;
    seen = {
      inherit (it)
        failed
        warnings
        machines
        unit
        toplevel
        vmTest
        ;
    };
  };
  refused = it: words: {
    ok = lib.length it.failed == 1 && lib.hasInfix words (lib.head it.failed);
    seen = it.failed;
  };
in
{
  guest-aarch64 = goodGuest "aarch64-linux";
  guest-x86_64 = goodGuest "x86_64-linux";
  guest-x86_64-has-no-rosetta = refused (guest "x86_64-linux" {
    drover.guest.rosetta.enable = true;
  }) "Rosetta is only supported on aarch64";

  darwin = goodDarwin (darwin { } [ ]) true;
  darwin-without-nix = goodDarwin (darwin { nix.enable = false; } [ ]) true;
  darwin-with-determinate =
    let
      it = darwin { } [ (determinate + "/modules/nix-darwin") ];
    in
    goodDarwin it (lib.hasInfix ''"state":"disabled"'' it.determinate);
  darwin-with-values-of-all-kinds = goodDarwin (darwin {
    services.drover = {
      memory = "0.5 TiB";
      idleTimeout = "1d 2h";
      settings.log.file = null;
      settings.pool = lib.mkForce { };
    };
  } [ ]) true;
  darwin-with-linux-builder = refused (darwin {
    nix.linux-builder.enable = true;
  } [ ]) "services.drover and nix.linux-builder would both build";

  nixos = goodNixos (nixos { });
}
