# Drover and, for macOS, vz-helper.
final: _: {
  drover-vz-helper = final.callPackage ../vz-helper { };
  drover = final.callPackage ./package.nix {
    vz-helper = if final.stdenv.hostPlatform.isDarwin then final.drover-vz-helper else null;
  };
}
