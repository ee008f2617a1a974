# A stand-in for pkgs: derivations that can be named and never built. With it go the functions that make files, whose
# results have their text as `text`.
{
  lib,
  system,
  # Names of packages besides those that the functions below need, or sets of more of pkgs.
  names ? [ ],
  extra ? { },
}:
let
  package =
    name: attributes:
    let
      inherit (builtins.parseDrvName name) version;
      pname = (builtins.parseDrvName name).name;
    in
    derivation {
      inherit name system;
      builder = "/bin/sh";
    }
    // {
      inherit pname version;
      meta.mainProgram = pname;
    }
    // attributes;
  file = name: text: package name { inherit text; };
in
lib.genAttrs ([ "bash" ] ++ names) (name: package "${name}-1.0" { })
// {
  inherit lib package;
  inherit system;
  stdenv = rec {
    hostPlatform = {
      inherit system;
      isLinux = lib.hasSuffix "-linux" system;
      isDarwin = lib.hasSuffix "-darwin" system;
      isAarch64 = lib.hasPrefix "aarch64-" system;
      isx86_64 = lib.hasPrefix "x86_64-" system;
      canExecute = platform: platform.system == system;
    };
    buildPlatform = hostPlatform;
  };
  writeText = file;
  writeScript = file;
  writeShellScript = file;
  writeShellScriptBin = file;
  writeTextFile = { name, text, ... }: file name text;
  writeShellApplication = { name, text, ... }: file name text;
  runCommand =
    name: _: text:
    file name text;
  runCommandLocal =
    name: _: text:
    file name text;
  formats =
    let
      json = _: {
        type = lib.types.attrsOf lib.types.anything;
        generate = name: value: package name { inherit value; };
      };
    in
    {
      inherit json;
      yaml = json;
    };
}
// extra
