# A machine that leaves builds to Drover, in virtual machines that it boots from the guest image: for
# pkgs.testers.runNixOSTest.
{
  # nixosModules.default.
  module,
}:
{ lib, ... }:
{
  name = "drover-guest";

  nodes.machine =
    { pkgs, ... }:
    {
      imports = [ module ];
      services.drover = {
        enable = true;
        driver = "qemu";
        memory = "1GiB";
        scratchSize = "2GiB";
        maxGuests = 1;
        # The machine is virtual itself, so that guests may have to be emulated.
        settings.pool.bootTimeout = "10m";
      };
      # All builds run in guests.
      nix.settings = {
        max-jobs = 0;
        substituters = lib.mkForce [ ];
      };
      virtualisation = {
        cores = 2;
        memorySize = 4096;
        diskSize = 4096;
        writableStore = true;
        # A file system that virtiofsd can share.
        useNixStoreImage = true;
      };
      environment.etc."build.nix".text = ''
        { name }:
        derivation {
          inherit name;
          system = "${pkgs.stdenv.hostPlatform.system}";
          builder = "/bin/sh";
          args = [ "-c" "read -r host < /proc/sys/kernel/hostname; echo built in $host > $out" ];
        }
      '';
    };

  testScript = ''
    machine.wait_for_unit("drover.service")
    machine.wait_until_succeeds("drover status")
    path = machine.succeed("nix-build --no-out-link /etc/build.nix --argstr name one").strip()
    assert machine.succeed("cat /var/lib/drover/logs/*").count("guest is up") == 1
    assert "1 builds (0 failed" in machine.succeed("drover status")
    machine.succeed(f"cat {path}")
  '';
}
