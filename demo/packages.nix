# Real C programs and libraries from their upstream sources, with dependencies among them. Their only input is
# CACHEDIR, filled by fetch.sh:
#
#   nix-build demo/packages.nix --arg cache CACHEDIR -A all
{
  # CACHEDIR, as a path
  cache,
  system ? "x86_64-linux",
  # in the environment of every derivation: another value rebuilds everything
  variant ? "",
  # the same for the toolchain, which need not be rebuilt with the packages
  toolchainVariant ? variant,
}:
let
  manifest =
    let
      found = builtins.fromJSON (builtins.readFile (cache + "/manifest.json"));
      fetchedFor =
        {
          amd64 = "x86_64-linux";
          arm64 = "aarch64-linux";
        }
        .${found.architecture};
    in
    if fetchedFor == system then
      found
    else
      throw "${toString cache} was fetched for ${fetchedFor}, but system is ${system}";

  inherit
    (import ./toolchain.nix {
      inherit system cache manifest;
      variant = toolchainVariant;
    })
    libc
    toolchain
    ;

  source =
    name:
    let
      entry = manifest.sources.${name};
    in
    builtins.path {
      name = baseNameOf entry.file;
      path = cache + "/${entry.file}";
      recursive = false;
      sha256 = entry.sha256;
    };

  package =
    name:
    {
      dependencies ? [ ],
      build,
      extraCFlags ? "",
    }:
    derivation {
      name = "${name}-${manifest.sources.${name}.version}";
      inherit
        system
        variant
        toolchain
        dependencies
        build
        extraCFlags
        ;
      source = source name;
      builder = "${toolchain}/bin/bash";
      args = [ ./package.sh ];
    };

  # A directory with a link per package; its closure is the result of the build.
  collection =
    name: members:
    derivation {
      inherit
        name
        system
        variant
        toolchain
        ;
      builder = "${toolchain}/bin/bash";
      args = [ ./collection.sh ];
      names = builtins.attrNames members;
      paths = builtins.attrValues members;
    };

  recipes = import ./recipes.nix packages;
  packages = builtins.mapAttrs package recipes;
in
packages
// {
  inherit libc toolchain;

  all = collection "all" packages;

  smaller = collection "smaller" {
    inherit (packages)
      bzip2
      figlet
      jq
      libpng
      oniguruma
      tree
      zlib
      ;
  };
}
