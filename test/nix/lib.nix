# nixpkgs' own lib where DROVER_NIXPKGS_LIB names its folder, otherwise ./lib, a small one of our
# own: neither Debian nor npm has nixpkgs' lib, and the tests must not depend on anything else.
let
  real = builtins.getEnv "DROVER_NIXPKGS_LIB";
in
if real == "" then import ./lib else import (/. + real)
