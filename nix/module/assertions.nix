# Errors in any host's configuration, with remedies.
{ cfg, lib }:
let
  inherit (cfg.settings) pool doors;
  isFreePort = lib.hasSuffix ":0" doors.ssh.listen;
in
[
  {
    assertion = pool.warmGuests <= pool.maxGuests;
    message = ''
      services.drover.warmGuests is ${toString pool.warmGuests}, more than the ${toString pool.maxGuests} of
      services.drover.maxGuests. Set one of them to that of the other.'';
  }
  {
    assertion = cfg.ssh.enable -> doors.ssh.authorizedKeys ++ doors.ssh.clients != [ ];
    message = ''
      services.drover.ssh.enable is set, but no client could use that door. List the public keys of the clients as
      services.drover.ssh.authorizedKeys.'';
  }
  {
    assertion = cfg.door == "ssh" -> cfg.ssh.enable;
    message = ''
      services.drover.door is "ssh", but there is no ssh door. Set services.drover.ssh.enable = true and list this
      host's own key as services.drover.ssh.authorizedKeys, or set services.drover.door = "socket".'';
  }
  {
    assertion = cfg.ssh.enable -> !isFreePort;
    message = ''
      services.drover.ssh.listen is ${doors.ssh.listen}, any free port, which clients cannot know. Choose one, such
      as 127.0.0.1:31122.'';
  }
]
