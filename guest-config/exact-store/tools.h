// For images whose own system is in the host's store: its listings are made with the image, and shown while it boots.
#pragma once

/// `exact-store list PATH...`: prints the listings of the paths, each after a line `path NAME`.
int tools_list(char **paths);
// / `exact-store show SOCKET literal|case-hack`: has the paths shown whose listings are on standard input. With
// `case-hack` the / host's Nix has renamed files whose names differ only in case, as Nix does it on macOS.
int tools_show(const char *socketPath, const char *host);
