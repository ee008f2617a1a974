# drover-guest, the same file as in every other kind of guest.
{ config, pkgs, ... }:
{
  environment.systemPackages = [
    (pkgs.runCommandLocal "drover-guest" { } ''
      install -D -m 755 ${../drover-guest.sh} $out/bin/drover-guest
    '')
    # Programs that it calls, besides Nix.
    config.drover.guest.exactStore
    pkgs.coreutils
    pkgs.findutils
    pkgs.gawk
    pkgs.gnugrep
    pkgs.sqlite
    pkgs.util-linux
  ];
}
