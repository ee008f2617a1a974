# The network serves fixed-output derivations only: an address by DHCP, in the background, after everything
# that the supervisor waits for. A guest without a network card has none.
{ config, lib, ... }:
{
  networking = {
    # Its name is in its identity.
    hostName = lib.mkDefault "drover";
    useNetworkd = true;
    useDHCP = false;
    # Nothing listens on the network.
    firewall.enable = lib.mkDefault false;
  };
  systemd.network = {
    wait-online.enable = false;
    networks."10-ether" = {
      matchConfig.Type = "ether";
      networkConfig.DHCP = "ipv4";
      # The host would give guests with the same machine-id the same address.
      dhcpV4Config.ClientIdentifier = "mac";
      linkConfig.RequiredForOnline = "no";
    };
  };
  services.resolved.enable = true;

  # Kept out of the boot: otherwise resolved would start before any socket, and networkd with the first event
  # of a network card.
  systemd.sockets.systemd-networkd.wantedBy = lib.mkForce [ ];
  systemd.services = {
    systemd-networkd.wantedBy = lib.mkForce [ ];
    systemd-resolved.wantedBy = lib.mkForce [ ];
    drover-network = {
      description = "Start of the network in the background";
      wantedBy = [ "multi-user.target" ];
      after = [ "sockets.target" ];
      serviceConfig = {
        Type = "oneshot";
        ExecStart = "${config.systemd.package}/bin/systemctl start --no-block systemd-networkd.service systemd-resolved.service";
      };
    };
  };
}
