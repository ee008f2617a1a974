# ssh_config for `ssh drover`, as root: Nix does that where services.drover.door is "ssh".
{ cfg, lib }:
let
  address = builtins.match "\\[?([^]]*)]?:([0-9]+)" cfg.settings.doors.ssh.listen;
  host = lib.elemAt address 0;
  # A wildcard address is reached at the loopback address.
  reachable =
    if host == "0.0.0.0" then
      "127.0.0.1"
    else if host == "::" then
      "::1"
    else
      host;
in
''
  Host drover drover-shared
    HostName ${reachable}
    Port ${lib.elemAt address 1}
    User drover
    HostKeyAlias drover
    UserKnownHostsFile ${cfg.settings.stateDir}/ssh/known_hosts
    StrictHostKeyChecking yes
    ServerAliveInterval 15
''
+ lib.optionalString (
  cfg.ssh.identityFile != null
) "  IdentityFile ${cfg.ssh.identityFile}\n  IdentitiesOnly yes\n"
+ ''
  Host drover-shared
    ControlMaster auto
    ControlPath ~/.%n
    ControlPersist 10m
''
