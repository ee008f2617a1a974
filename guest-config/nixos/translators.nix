# x86_64 programs on aarch64: by Rosetta, where the host shares it, or by QEMU's user emulator, which the image has.
# Before any build relies on one of them, a program has to run.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.drover.guest;
  inherit (config.virtualisation.rosetta) mountPoint;
  socketDirectory = "/run/rosettad";
in
lib.mkMerge [
  (lib.mkIf (cfg.rosetta.enable || cfg.qemuUser.enable) {
    systemd.services.drover-canary = lib.mkMerge [
      (import ./vital.nix { inherit pkgs; } "the check of x86_64 programs")
      (import ./once-before.nix "nix-daemon.socket")
      {
        description = "An x86_64 program that has to run";
        requiredBy = [ "nix-daemon.socket" ];
        requires = [ "drover-identity.service" ];
        after = [
          "drover-identity.service"
          "systemd-binfmt.service"
        ];
        serviceConfig.ExecStart = "${pkgs.runtimeShell} ${../canary.sh} /run/drover";
        path = [ pkgs.coreutils ];
      }
    ];
  })

  # Registered as `x86_64-linux`, and shown to builds in their sandbox. The driver's nix.conf decides whether Nix
  # accepts such builds.
  (lib.mkIf cfg.qemuUser.enable { boot.binfmt.emulatedSystems = [ "x86_64-linux" ]; })

  (lib.mkIf cfg.rosetta.enable {
    virtualisation.rosetta.enable = true;
    # The newest kernel that Rosetta of every macOS from 13 on runs on: docs/images.md has the table. Newer ones are
    # fine from macOS 26 on.
    boot.kernelPackages = lib.mkDefault pkgs.linuxPackages_6_1;
    # The share is there only if the host has Rosetta; the guest boots without it.
    fileSystems.${mountPoint} = {
      noCheck = true;
      options = [
        "ro"
        "nofail"
      ];
    };
    nix.settings.extra-sandbox-paths = [ "${socketDirectory}?" ];

    systemd.services = {
      systemd-binfmt.after = [ "run-rosetta.mount" ];

      # Translations are kept by a daemon, if the host says so. Without it, each process has its own.
      drover-rosettad = {
        description = "Rosetta's translations";
        wantedBy = [ "multi-user.target" ];
        requires = [ "drover-identity.service" ];
        after = [
          "drover-identity.service"
          "sockets.target"
        ];
        unitConfig.ConditionPathExists = "${mountPoint}/rosettad";
        serviceConfig.ExecStart = "${pkgs.runtimeShell} ${../rosettad.sh} /run/drover ${mountPoint}/rosettad /nix/.scratch/rosetta ${socketDirectory}";
        path = [ pkgs.util-linux ];
      };
    };
  })
]
