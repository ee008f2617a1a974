# Errors in a Mac's configuration, with remedies. Errors that only the Mac itself can show are in
# activation.nix.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  cfg = config.services.drover;
  # As they end up in the file, whatever options they come from.
  inherit (cfg.settings) systems features guest;
  inherit (cfg.settings.pool) jobsPerGuest;
  quoted = lib.concatMapStringsSep ", " (name: "\"${name}\"");

  possible = [
    "aarch64-linux"
    "x86_64-linux"
  ];
  impossible = lib.subtractLists possible systems;
  # As src/drivers/vz/driver.ts: connections to a guest, of which one is not for a job.
  maxJobsPerGuest = 511;
  isVz = lib.elem cfg.settings.driver or "auto" [
    "vz"
    "auto"
  ];
  # Other modules' virtual machines. Their systems are a function of a whole NixOS configuration, which must
  # not be evaluated while they are off.
  builders =
    lib.optionalAttrs (options ? nix.linux-builder) { "nix.linux-builder" = config.nix.linux-builder; }
    //
      lib.optionalAttrs
        (options ? determinateNix.nixosVmBasedLinuxBuilder && config.determinateNix.enable)
        {
          "determinateNix.nixosVmBasedLinuxBuilder" = config.determinateNix.nixosVmBasedLinuxBuilder;
        };
  isBuilt = cfg.guest.image == "build" || (cfg.guest.image == "release" && cfg.guest.release == null);
  flake = "github:OWNER/drover"; # as in docs/mac.md
  notBesides =
    name: builder:
    let
      overlap = lib.optionals builder.enable (lib.intersectLists systems builder.systems);
    in
    {
      assertion = overlap == [ ];
      message = ''
        services.drover and ${name} would both build ${quoted overlap}, and Nix would send builds to
        either. Set ${name}.enable = false, or take the systems out of one of them.'';
    };
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = pkgs.stdenv.hostPlatform.isAarch64;
        message = ''
          services.drover needs a Mac with Apple silicon; this configuration is for ${pkgs.stdenv.hostPlatform.system}.
          Disable it on this host, and let its Nix build on another host's Drover, through the ssh door.'';
      }
      {
        assertion = impossible == [ ];
        message = "services.drover.systems: guests on a Mac cannot build ${quoted impossible}. Remove it: they build ${quoted possible}.";
      }
      {
        assertion =
          lib.elem "x86_64-linux" systems
          -> guest.rosetta.enable or true || lib.elem "qemu-user" (guest.x86_64 or [ "qemu-user" ]);
        message = ''
          services.drover.systems has "x86_64-linux", which guests on a Mac can only build with Rosetta or QEMU. Set
          services.drover.rosetta.enable = true, add "qemu-user" to services.drover.settings.guest.x86_64, or remove
          "x86_64-linux" from services.drover.systems.'';
      }
      {
        assertion = lib.elem "kvm" features -> guest.nestedVirtualization or false;
        message = ''
          services.drover.supportedFeatures has "kvm", but guests have no /dev/kvm. Set
          services.drover.nestedVirtualization = true (macOS 15 and an M3 or later), or remove "kvm".'';
      }
      {
        assertion = isVz -> jobsPerGuest <= maxJobsPerGuest;
        message = ''
          services.drover.jobsPerGuest is ${toString jobsPerGuest}, and a guest on a Mac has at most ${toString maxJobsPerGuest} jobs
          at the same time. Lower it, and raise services.drover.maxGuests.'';
      }
      {
        assertion = guest ? image;
        message = ''
          services.drover.guest.image: there is no image for guests to boot from. Import darwinModules.default of
          Drover's flake, which brings one, or name the manifest of an image.'';
      }
    ]
    ++ lib.optional (cfg.guest.image == "release") {
      assertion = cfg.guest.config == null;
      message = ''
        services.drover.guest.config makes an image of its own, and services.drover.guest.image is "release", which
        has nothing of it. Set services.drover.guest.image = "build", or remove services.drover.guest.config.'';
    }
    ++ lib.mapAttrsToList notBesides builders;

    warnings =
      lib.optional (cfg.guest.image == "release" && cfg.guest.release == null) ''
        services.drover: this version of Drover names no released guest image, so the image is built, and only Linux can
        build it. On a Mac without a Linux builder, run `nix run ${flake}#bootstrap` first; to see this no more, set
        services.drover.guest.image = "build".''
      ++ lib.optional (isBuilt && cfg.guest.followsNixpkgs) ''
        services.drover: the guest image is built from another nixpkgs than Drover was made with, since
        inputs.drover.inputs.nixpkgs follows one. It is not the image that bootstrap has built, and no cache has it:
        remove that `follows`, or build it with a Linux builder and expect the untried.'';
  };
}
