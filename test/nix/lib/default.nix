# The part of nixpkgs' lib that Drover's modules use, so that they can be evaluated, and their types checked,
# without nixpkgs.
let
  functions = import ./functions.nix;
  definitions = import ./definitions.nix;
  types = import ./types.nix { inherit functions definitions evalModules; };
  evalModules = import ./modules.nix { inherit lib functions definitions; };
  properties = import ./properties.nix { inherit types; };
  lib =
    functions
    // properties
    // {
      inherit types evalModules;
      inherit (types) mkOptionType;
      isType = kind: x: builtins.isAttrs x && (x._type or null) == kind;
      isOption = lib.isType "option";
      licenses.mit.spdxId = "MIT";
      maintainers = { };
      platforms = {
        linux = [
          "aarch64-linux"
          "x86_64-linux"
        ];
        darwin = [ "aarch64-darwin" ];
      };
    };
in
lib
