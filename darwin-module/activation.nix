# Activation of a system: before any change, checks what only the Mac itself can tell; then, before the
# service starts, creates its directory and the image's root for the garbage collector.
{ config, lib, ... }:
let
  cfg = config.services.drover;
  gcRoot = "/nix/var/nix/gcroots/drover-guest-image";
  # nix-darwin replaces the service, which has the same label, but none of these files.
  bootstrapped = "/etc/drover/drover.yaml";
  image = if cfg.enable then dirOf (cfg.settings.guest.image or "") else "";
  closureRoots = "/nix/var/nix/gcroots/drover-guest-closure";
  # Its system comes with it; otherwise it is in the store, where it was built.
  isReleased =
    cfg.enable
    && cfg.guest.image == "release"
    && cfg.guest.release != null
    && (cfg.settings.guest.image or "") == cfg.guest.manifest;
  isInStore = lib.hasPrefix "${builtins.storeDir}/" image;
in
{
  config = lib.mkMerge [
    (lib.mkIf cfg.enable {
      system.checks.text = lib.mkAfter (
        ''
          droverMacOS=$(sw_vers -productVersion)
          if (( ''${droverMacOS%%.*} < 13 )); then
            printf >&2 '\e[1;31merror: Drover needs macOS 13 or later, and this is %s, aborting activation\e[0m\n' "$droverMacOS"
            printf >&2 'Update macOS, or set:\n'
            printf >&2 '\n'
            printf >&2 '    services.drover.enable = false;\n'
            printf >&2 '\n'
            exit 2
          fi

          if [ -e ${bootstrapped} ] && [ ! -L ${bootstrapped} ]; then
            printf >&2 '\e[1;31merror: bootstrap has registered a Drover of its own, aborting activation\e[0m\n'
            printf >&2 'Remove it, and its line in /etc/nix/machines; its guest image stays, and is used:\n'
            printf >&2 '\n'
            printf >&2 '    sudo launchctl bootout system/org.nixos.drover\n'
            printf >&2 '    sudo rm %s /etc/newsyslog.d/drover.conf /etc/paths.d/drover\n' ${bootstrapped}
            printf >&2 '\n'
            exit 2
          fi

          droverDirectory=${lib.escapeShellArg cfg.settings.stateDir}
          # find, since macOS's stat and GNU's take other options.
          if [ -d "$droverDirectory" ] && [ -n "$(find -H "$droverDirectory" -prune ! \( -user 0 -perm 700 \))" ] && [ -n "$(ls -A "$droverDirectory")" ]; then
            printf >&2 '\e[1;31merror: Drover would close %s to others, and it has files of theirs, aborting activation\e[0m\n' "$droverDirectory"
            printf >&2 'Give Drover a directory of its own:\n'
            printf >&2 '\n'
            printf >&2 '    services.drover.workingDirectory = "%s/drover";\n' "$droverDirectory"
            printf >&2 '\n'
            exit 2
          fi
        ''
        + lib.optionalString cfg.rosetta.enable ''
          if ! /usr/bin/arch -x86_64 /usr/bin/true 2>/dev/null; then
            printf >&2 '\e[1;33mwarning: Drover is to build x86_64-linux, and Rosetta seems not to be installed\e[0m\n'
            printf >&2 'Without it guests emulate x86_64 with QEMU, which is many times slower.\n'
            printf >&2 'Install it:\n'
            printf >&2 '\n'
            printf >&2 '    softwareupdate --install-rosetta\n'
            printf >&2 '\n'
            printf >&2 'or set services.drover.rosetta.enable = false.\n'
          fi
        ''
      );
    })
    {
      system.activationScripts.extraActivation.text = lib.mkAfter (
        lib.optionalString cfg.enable ''
          install -d -m 0700 -o 0 -g 0 ${lib.escapeShellArg cfg.settings.stateDir}
        ''
        + (
          if isInStore then
            ''
              mkdir -p ${dirOf gcRoot}
              ln -sfn ${lib.escapeShellArg image} ${gcRoot}
            ''
          else
            ''
              rm -f ${gcRoot}
            ''
        )
        + (
          if isReleased then
            ''
              PATH=/nix/var/nix/profiles/default/bin:/run/current-system/sw/bin:$PATH /bin/sh ${../nix/import-closure.sh} ${lib.escapeShellArg image} ${closureRoots}
            ''
          else
            ''
              rm -rf ${closureRoots}
            ''
        )
      );
    }
  ];
}
