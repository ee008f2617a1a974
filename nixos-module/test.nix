# A NixOS machine that builds in guests, for the flake's checks: pkgs.testers.runNixOSTest (import ./test.nix { … }).
{
  # With Drover's package.
  module,
}:
{ lib, ... }:
{
  name = "drover";

  nodes.machine =
    { pkgs, ... }:
    {
      imports = [ module ];
      services.drover = {
        enable = true;
        scratchSize = "512MiB";
      };
      # All builds run in guests.
      nix.settings = {
        max-jobs = 0;
        substituters = lib.mkForce [ ];
      };
      virtualisation = {
        memorySize = 2048;
        writableStore = true;
        additionalPaths = [ pkgs.pkgsStatic.busybox ];
      };
      specialisation.larger.configuration.services.drover.maxGuests = 3;

      environment.etc."build.nix".text = ''
        { name }:
        derivation {
          inherit name;
          system = "${pkgs.stdenv.hostPlatform.system}";
          builder = "''${builtins.storePath ${pkgs.pkgsStatic.busybox}}/bin/busybox";
          args = [ "sh" "-c" "echo built by ''${name} > $out" ];
        }
      '';
    };

  testScript = ''
    machine.wait_for_unit("drover.service")
    machine.wait_until_succeeds("drover status")

    def build(name):
        path = machine.succeed(f"nix-build --no-out-link /etc/build.nix --argstr name {name}").strip()
        assert machine.succeed(f"cat {path}") == f"built by {name}\n"

    build("one")
    assert "1 guests booted" in machine.succeed("drover status")

    # As another user, through the host's nix-daemon.
    machine.succeed("su nobody -s /bin/sh -c 'HOME=/tmp NIX_REMOTE=daemon nix-build --no-out-link /etc/build.nix --argstr name two'")

    with subtest("a changed configuration restarts nothing"):
        pid = machine.succeed("systemctl show -p MainPID --value drover")
        machine.succeed("/run/current-system/specialisation/larger/bin/switch-to-configuration test")
        machine.wait_until_succeeds("drover status | grep 'up to 3'")
        assert machine.succeed("systemctl show -p MainPID --value drover") == pid
        build("three")

    with subtest("nothing is left of its guests"):
        machine.succeed("systemctl stop drover")
        assert machine.succeed("ls -A /var/lib/drover/guests") == ""
  '';
}
