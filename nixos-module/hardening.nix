# Restrictions of the service. Builds run below it and inherit all of them, so none may be noticeable for a
# build: no filters of system calls (Nix sets personalities for i686, and builds test all kinds of calls), no
# filters of address families, no private clock or host name, which guests have anyway.
{ writablePaths }:
{
  # No more than root in a guest has (namespace/drover-namespace.c), less what no guest needs.
  CapabilityBoundingSet = [
    "CAP_CHOWN"
    "CAP_DAC_OVERRIDE"
    "CAP_DAC_READ_SEARCH"
    "CAP_FOWNER"
    "CAP_FSETID"
    "CAP_KILL"
    "CAP_MKNOD"
    "CAP_NET_ADMIN"
    "CAP_NET_BIND_SERVICE"
    "CAP_SETFCAP"
    "CAP_SETGID"
    "CAP_SETPCAP"
    "CAP_SETUID"
    "CAP_SYS_ADMIN"
    "CAP_SYS_CHROOT"
    "CAP_SYS_NICE"
    "CAP_SYS_PTRACE"
    "CAP_SYS_RESOURCE"
  ];
  NoNewPrivileges = true;
  # Files of the host, guests' own mounts are not concerned.
  ProtectSystem = "strict";
  ReadWritePaths = writablePaths;
  ProtectHome = true;
  PrivateTmp = true;
  ProtectKernelTunables = true;
  ProtectKernelModules = true;
  ProtectKernelLogs = true;
  # Beyond /dev/null and the like.
  DevicePolicy = "closed";
  DeviceAllow = [
    "/dev/kvm rw"
    "/dev/net/tun rw"
  ];
  KeyringMode = "private";
}
