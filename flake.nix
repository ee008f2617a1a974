{
  description = "Drover: throw-away Linux builders for Nix";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixpkgs-unstable";
    # For a check only.
    nix-darwin.url = "github:nix-darwin/nix-darwin";
    nix-darwin.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    {
      self,
      nixpkgs,
      nix-darwin,
    }:
    let
      inherit (nixpkgs) lib;
      linux = [
        "aarch64-linux"
        "x86_64-linux"
      ];
      darwin = [ "aarch64-darwin" ];
      forSystems = systems: make: lib.genAttrs systems (system: make pkgsFor.${system});
      pkgsFor = lib.genAttrs (linux ++ darwin) (
        system: nixpkgs.legacyPackages.${system}.extend self.overlays.default
      );

      guestSystem =
        system: modules:
        import ./nix/guest-system.nix {
          inherit nixpkgs system modules;
        };
      guestImage = system: modules: (guestSystem system modules).config.system.build.droverImage;

      # Parameters that a host's module cannot find out by itself.
      hostModule =
        module: guest:
        { lib, pkgs, ... }:
        {
          imports = [ module ];
          services.drover = {
            package = lib.mkDefault self.packages.${pkgs.stdenv.hostPlatform.system}.default;
            guest.build = lib.mkDefault (guest pkgs.stdenv.hostPlatform.system);
            guest.release = lib.mkDefault (pkgs.callPackage ./nix/release.nix { });
            guest.followsNixpkgs = lib.mkDefault (
              (nixpkgs.narHash or null) != (lib.importJSON ./flake.lock).nodes.nixpkgs.locked.narHash
            );
          };
        };
    in
    {
      overlays.default = import ./nix/overlay.nix;

      packages =
        lib.recursiveUpdate
          (forSystems (linux ++ darwin) (pkgs: {
            default = pkgs.drover;
          }))
          (
            forSystems linux (
              pkgs:
              let
                inherit ((guestSystem pkgs.stdenv.hostPlatform.system [ ]).config.system) build;
              in
              {
                guest-kernel = build.kernel;
                guest-initrd = build.initialRamdisk;
                guest-system = build.toplevel;
                guest-image = build.droverImage;
              }
            )
            // forSystems darwin (pkgs: {
              vz-helper = pkgs.drover-vz-helper;
            })
          );

      darwinModules.default = hostModule ./darwin-module (_: guestImage "aarch64-linux");
      nixosModules = {
        # On Linux there is no Rosetta.
        default = hostModule ./nixos-module (
          system: modules: guestImage system (modules ++ [ { drover.guest.rosetta.enable = false; } ])
        );
        guest = ./guest-config/nixos;
      };

      apps =
        let
          app = description: program: {
            type = "app";
            program = toString program;
            meta = { inherit description; };
          };
          common = pkgs: {
            default = app "Drover's command line" (lib.getExe pkgs.drover);
            demo = app "builds something in a guest of the Drover that runs here" (
              pkgs.writeShellScript "drover-demo" ''
                export PATH=${lib.makeBinPath [ pkgs.drover ]}:$PATH
                exec /bin/sh ${./nix/demo.sh} "$@"
              ''
            );
          };
        in
        forSystems linux common
        // forSystems darwin (
          pkgs:
          let
            release = pkgs.callPackage ./nix/release.nix { };
          in
          common pkgs
          // {
            bootstrap = app "builds the guest image on a Mac without Linux, and registers Drover" (
              lib.getExe (
                pkgs.callPackage ./nix/bootstrap.nix {
                  isReleased = release != null;
                  guest-image =
                    if release != null then release else self.packages.aarch64-linux.guest-image;
                }
              )
            );
          }
        );

      devShells = forSystems (linux ++ darwin) (pkgs: {
        default = pkgs.mkShell {
          packages = [
            pkgs.nodejs
            pkgs.python3 # for node-gyp, which compiles ssh2's cryptography
            pkgs.shellcheck
          ]
          ++ lib.optionals pkgs.stdenv.hostPlatform.isLinux [
            pkgs.jq
            pkgs.openssh
            pkgs.qemu
            pkgs.virtiofsd
          ];
        };
      });

      checks =
        let
          common = pkgs: {
            package = pkgs.drover;
            unit-tests = pkgs.callPackage ./nix/unit-tests.nix { };
          };
        in
        forSystems linux (
          pkgs:
          common pkgs
          // {
            nixos-module = pkgs.testers.runNixOSTest (
              import ./nixos-module/test.nix { module = self.nixosModules.default; }
            );
            guest-image = pkgs.testers.runNixOSTest (
              import ./nix/guest-test.nix { module = self.nixosModules.default; }
            );
          }
        )
        // forSystems darwin (
          pkgs:
          common pkgs
          // {
            vz-helper = pkgs.drover-vz-helper;
            darwin-module = pkgs.callPackage ./nix/darwin-check.nix {
              inherit nix-darwin;
              module = self.darwinModules.default;
            };
          }
        );

      formatter = forSystems (linux ++ darwin) (pkgs: pkgs.nixfmt-tree or pkgs.nixfmt-rfc-style);
    };
}
