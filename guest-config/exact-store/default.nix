# A static program, for initrd and system: `pkgsStatic.callPackage ./exact-store { }`.
{ lib, stdenv }:
stdenv.mkDerivation {
  pname = "exact-store";
  version = "0.1.0";
  src = lib.fileset.toSource {
    root = ./.;
    fileset = lib.fileset.fileFilter (file: file.hasExt "c" || file.hasExt "h") ./.;
  };
  buildPhase = ''
    $CC -O2 -Wall -Wextra -static -pthread -o exact-store *.c
  '';
  installPhase = ''
    install -D exact-store $out/bin/exact-store
  '';
  meta = {
    description = "Shows the host's store to a guest exactly as Nix made it";
    license = lib.licenses.mit;
    platforms = lib.platforms.linux;
    mainProgram = "exact-store";
  };
}
