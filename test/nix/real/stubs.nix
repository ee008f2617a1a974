# Parts that an old or incomplete nixpkgs lacks for evaluation: none of them is ever built.
final: previous:
let
  shellcheck = final.runCommandLocal "shellcheck" {
    passthru.compiler = final.bash // {
      bootstrapAvailable = false;
    };
    meta.mainProgram = "shellcheck";
  } "exit 1";
in
{
  inherit shellcheck;
  shellcheck-minimal = shellcheck;
}
// (
  if previous ? replaceVarsWith then
    { }
  else
    {
      replaceVarsWith =
        { replacements, ... }@arguments:
        final.substituteAll (removeAttrs arguments [ "replacements" ] // replacements);
    }
)
