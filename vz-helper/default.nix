# vz-helper for macOS: `callPackage ./vz-helper { }`.
{
  lib,
  stdenv,
  apple-sdk_15,
  darwin,
}:

stdenv.mkDerivation {
  pname = "vz-helper";
  version = "0.1.0";

  src = lib.fileset.toSource {
    root = ./.;
    fileset = lib.fileset.unions [
      ./Makefile
      ./entitlements.plist
      ./src
    ];
  };

  nativeBuildInputs = [ darwin.sigtool ];
  # Declares what macOS 15 can do; the program checks at run time, and runs from macOS 13 on.
  buildInputs = [ apple-sdk_15 ];

  makeFlags = [
    "CC=${stdenv.cc.targetPrefix}cc"
    "PREFIX=${placeholder "out"}"
  ];

  # Last, since stripping undoes signatures. Ad hoc: this entitlement takes no certificate.
  postFixup = ''
    codesign -f -s - --entitlements entitlements.plist $out/bin/vz-helper
  '';

  meta = {
    description = "Runs one Linux guest under Apple's Virtualization.framework";
    license = lib.licenses.mit;
    platforms = lib.platforms.darwin;
    mainProgram = "vz-helper";
  };
}
