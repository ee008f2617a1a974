#!/bin/sh
# guest-registration.sh STORE-PATHS REGISTRATION: prints those records of REGISTRATION, in the text form of
# `nix-store --dump-db`, that a guest may treat as valid on any host.
#
# On macOS Nix renames files whose names differ only in case. A guest sees the host's files, and so sees other
# names than the path is registered with. Drover copies such a path into a guest when a build needs it, but
# not into a guest that has it already. So it is left out, with all its referrers, since Nix accepts no record
# without its references.
set -eu
renamed=$(mktemp)
trap 'rm -f "$renamed"' EXIT

# shellcheck disable=SC2016 # the inner shell expands it
xargs sh -c 'for path; do find "$path" -mindepth 1 -printf "%H\t%P\0"; done' sh < "$1" |
  tr '\n\0' '\1\n' |
  awk -F '\t' '{ name = tolower($0) } name in seen { print $1 } { seen[name] }' > "$renamed"

# A record is: path, NAR hash, NAR size, deriver, number of references, references.
awk '
  FILENAME == ARGV[1] { dropped[$0]; next }
  field == 0 { path = $0; paths[++count] = path }
  { text[path] = text[path] $0 "\n" }
  field == 4 { left = $0 + 0 }
  field == 5 { references[path, ++referenced[path]] = $0; left-- }
  { field = field < 4 ? field + 1 : left > 0 ? 5 : 0 }
  END {
    do {
      changed = 0
      for (i = 1; i <= count; i++) {
        if (paths[i] in dropped) continue
        for (j = 1; j <= referenced[paths[i]]; j++) {
          if (references[paths[i], j] in dropped) { dropped[paths[i]]; changed = 1 }
        }
      }
    } while (changed)
    for (i = 1; i <= count; i++) if (!(paths[i] in dropped)) printf "%s", text[paths[i]]
  }' "$renamed" "$2"
