# bootstrap.sh with its parameters. Neither the image nor the linux-builder's own parts for Linux are built
# for it.
{
  lib,
  darwin,
  drover,
  path,
  writeShellScriptBin,
  # A derivation for Linux, or a released image (release.nix).
  guest-image,
  isReleased,
}:
let
  # Only its derivation, which the script has built; here it would be too early.
  derivation = builtins.unsafeDiscardOutputDependency guest-image.drvPath;
  vm = darwin.linux-builder.nixosConfig.system.build.vm;
  hostKey = lib.fileContents (path + "/nixos/modules/profiles/keys/ssh_host_ed25519_key.pub");
in
writeShellScriptBin "drover-bootstrap" ''
  export DROVER_PACKAGE=${drover}
  export DROVER_IMAGE=${builtins.unsafeDiscardStringContext guest-image}
  export DROVER_IMAGE_DERIVATION=${derivation}
  ${
    if isReleased then
      "export DROVER_IMPORT=${./import-closure.sh}"
    else
      ''
        export BUILDER_VM=${lib.getExe vm}
        export BUILDER_HOST_KEY=${lib.escapeShellArg hostKey}
      ''
  }
  exec /bin/sh ${./bootstrap.sh} "$@"
''
