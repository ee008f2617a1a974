# A directory with the manifest of a guest image, which docs/images.md describes, and the kernel and initrd beside it.
{
  lib,
  closureInfo,
  jq,
  nix,
  runCommand,
  stdenvNoCC,
  # Parts of the guest's system: its top level, the files that boot it, and its description.
  toplevel,
  kernel,
  initrd,
  kernelParams,
  exactStore,
  shell,
  systems,
  translators,
}:
let
  closure = closureInfo {
    rootPaths = [
      toplevel
      shell
    ];
  };
  # Paths in the guest's store while it boots.
  listing = runCommand "drover-guest-listing" { } ''
    xargs ${lib.getExe exactStore} list ${registration} < ${closure}/store-paths > $out
  '';
  registration =
    runCommand "drover-guest-registration"
      {
        inherit closure;
      }
      ''
        sh ${./guest-registration.sh} $closure/store-paths $closure/registration > $out
      '';
in
runCommand "drover-guest-image"
  {
    nativeBuildInputs = [
      jq
      nix
    ];
    env = {
      inherit
        toplevel
        kernel
        initrd
        shell
        ;
      architecture = stdenvNoCC.hostPlatform.parsed.cpu.name;
      systems = toString systems;
      translators = toString translators;
      commandLine = toString (
        kernelParams
        ++ [
          "init=${toplevel}/init"
          "drover.registration=${registration}"
          "drover.listing=${listing}"
        ]
      );
    };
    passthru = { inherit listing registration; };
    meta.platforms = lib.platforms.linux;
  }
  ''
    sh ${./guest-image.sh} $out ${./nix-protocol.sh}
  ''
