# A C compiler for Nix's sandbox, made of Debian's binary packages: no /usr, no /bin/sh, every file in the
# store.
#
#   libc       the C library at run time; the only reference of built programs, apart from each other
#   toolchain  gcc, binutils, headers and the usual commands, patched to find libc and each other
{
  system,
  # CACHEDIR, and its manifest.json read into an attribute set
  cache,
  manifest,
  variant,
}:
let
  deb =
    name:
    builtins.path {
      name = "${name}.deb";
      path = cache + "/${manifest.debs.${name}.file}";
      recursive = false;
      sha256 = manifest.debs.${name}.sha256;
    };

  bootstrap = builtins.path {
    name = "bootstrap";
    path = cache + "/bootstrap";
  };

  runtimeDebs = [
    "libc6"
    "libgcc-s1"
  ];

  # patchelf and what it needs; a part of no output
  patchelfDebs = [
    "patchelf"
    "libstdc++6"
  ];

  unused = runtimeDebs ++ patchelfDebs ++ [ "busybox-static" ];
  toolchainDebs = builtins.filter (name: !builtins.elem name unused) (
    builtins.attrNames manifest.debs
  );

  # versions may hold characters that store names may not
  version = name: builtins.replaceStrings [ "~" ":" ] [ "-" "-" ] manifest.debs.${name}.version;

  unpacked =
    attributes:
    derivation (
      {
        inherit system variant;
        builder = "${bootstrap}/bin/busybox";
      }
      // attributes
    );

  libc = unpacked {
    name = "libc-${version "libc6"}";
    args = [
      "sh"
      ./libc.sh
    ];
    debs = map deb runtimeDebs;
  };

  toolchain = unpacked {
    name = "toolchain-gcc-${version "gcc-12"}";
    args = [
      "sh"
      ./toolchain.sh
    ];
    inherit libc;
    debs = map deb toolchainDebs;
    patchelfDebs = map deb patchelfDebs;
  };
in
{
  inherit libc toolchain;
}
