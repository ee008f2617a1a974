# Option types for what the configuration file writes in words (src/config/units.ts).
{ lib }:
let
  described = type: description: type // { inherit description; };
in
{
  size = described (lib.types.strMatching "[0-9]+(\\.[0-9]+)? ?(TiB|TB|GiB|GB|MiB|MB|KiB|kB|KB|B)") "size with its unit, such as \"8GiB\" or \"512MiB\"";
  duration = described (lib.types.strMatching "([0-9]+ ?(d|h|m|s|ms) ?)+") "duration, such as \"5m\" or \"1h30m\"";
  # No port can be told apart from an IPv6 address without brackets.
  listen = described (lib.types.strMatching "([^]:@ []+|\\[[0-9a-fA-F:.]+]):[0-9]{1,5}") "address and port, such as \"127.0.0.1:9619\" or \"[::1]:9619\"";
  # Nix's machines file has no quotes: a word is one column, a comma separates.
  word = described (lib.types.strMatching "[^], \t\n;#\"[]+") "word without spaces, commas and quotes";
  # Characters with a meaning for shells, newsyslog, systemd or URIs would need escaping in each of them.
  path = described (lib.types.strMatching "/[A-Za-z0-9._/-]*[A-Za-z0-9._-]") "absolute path of letters, digits, \".\", \"_\", \"-\" and \"/\", without a \"/\" at its end";
}
