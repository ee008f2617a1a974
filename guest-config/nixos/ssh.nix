# The supervisor's way to run drover-guest: sshd, without a network. One connection for each guest, over vsock or, where
# there is none, over a virtio-serial port.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  settings = pkgs.writeText "sshd_config" (
    builtins.readFile ../sshd_config + "SetEnv PATH=/run/current-system/sw/bin\n"
  );
  sshd = "${pkgs.openssh}/bin/sshd -i -e -f ${settings}";
  identity = {
    requires = [ "drover-identity.service" ];
    after = [ "drover-identity.service" ];
  };
in
{
  boot.kernelModules = [ "vmw_vsock_virtio_transport" ];
  systemd.sockets.drover-ssh = {
    description = "vsock for sshd";
    wantedBy = [ "sockets.target" ];
    socketConfig = {
      ListenStream = "vsock::22";
      Accept = true;
      MaxConnections = 512;
    };
  };
  systemd.services."drover-ssh@" = identity // {
    description = "sshd for one connection over vsock";
    serviceConfig = {
      ExecStart = "-${sshd}";
      StandardInput = "socket";
      StandardError = "journal";
      # Before builds, so that it answers however busy they are.
      Nice = -10;
    };
  };

  # The port is found by udev; where there is none, the service is never wanted.
  services.udev.extraRules = ''
    SUBSYSTEM=="virtio-ports", ATTR{name}=="drover.ssh", TAG+="systemd", ENV{SYSTEMD_WANTS}+="drover-ssh-port.service"
  '';
  systemd.services.drover-ssh-port = lib.mkMerge [
    identity
    (import ./vital.nix { inherit pkgs; } "the SSH connection")
    {
      description = "sshd on the virtio-serial port";
      after = [ "nix-daemon.socket" ];
      serviceConfig = {
        ExecStart = "${pkgs.runtimeShell} ${../ssh-port.sh} ${sshd}";
        StandardError = "journal+console";
        Nice = -10;
      };
      path = [ pkgs.coreutils ];
    }
  ];

  users = {
    users.sshd = {
      isSystemUser = true;
      group = "sshd";
      description = "SSH privilege separation user";
    };
    groups.sshd = { };
    # No password is the hash `*`. To sshd without PAM, the default would be a locked account, for keys as well.
    users.root = {
      hashedPassword = "*";
      # Not the default for people, which reads their start-up files first.
      shell = lib.mkForce "/bin/sh";
    };
  };
}
