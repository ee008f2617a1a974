export type MachineFormat = 'machines' | 'nix.conf' | 'ssh-config';
export const MACHINE_FORMATS: readonly MachineFormat[] = ['machines', 'nix.conf', 'ssh-config'];

/** The name under which ssh and Nix know the ssh door: its address and key are in ssh_config. */
export const SSH_ALIAS = 'drover';

/**
 * Jobs advertised beyond those that guests have room for. When all jobs of a machine are taken, Nix polls for a free
 * one every 5 seconds (its `poll-interval`), and guests would stand idle in between. A waiting session is cheap in
 * Drover, so excess builds queue here.
 */
const QUEUED_JOBS = 128;

/** Number of jobs that Nix is told of. */
export function maxAdvertisedJobs({
  maxGuests,
  jobsPerGuest,
}: {
  readonly maxGuests: number;
  readonly jobsPerGuest: number;
}): number {
  return maxGuests * jobsPerGuest + QUEUED_JOBS;
}

/** Everything that Nix needs in order to use Drover. */
export interface MachineFacts {
  readonly systems: readonly string[];
  readonly maxJobs: number;
  readonly features: readonly string[];
  /** The program that connects to the socket door. */
  readonly connect: string;
  /** Undefined without an ssh door. `publicKey`: `ssh-ed25519 <base64>`. */
  readonly ssh: { readonly host: string; readonly port: number; readonly publicKey: string } | undefined;
  /** Private key that clients of the ssh door use; undefined: ssh's own choice. */
  readonly identity: string | undefined;
}

/**
 * One line of Nix's machines file: store, systems, ssh key, jobs, speed, features, mandatory features, host key in
 * base 64 (`Machine::parseConfig` in Nix's machines.cc).
 */
export function machinesLine(door: 'socket' | 'ssh', facts: MachineFacts): string {
  const { systems, maxJobs, features, identity, ssh } = facts;
  const common = (key: string): string[] => [
    systems.join(','),
    key,
    String(maxJobs),
    '1',
    features.join(',') || '-',
    '-',
  ];
  if (door === 'socket') {
    const program = encodeURIComponent(facts.connect).replaceAll('%2F', '/');
    return [`ssh-ng://localhost?remote-program=${program}`, ...common('-'), '-'].join(' ');
  }
  const hostKey = Buffer.from(ssh?.publicKey ?? '').toString('base64') || '-';
  return [`ssh-ng://${SSH_ALIAS}`, ...common(identity ?? '-'), hostKey].join(' ');
}

/**
 * A `Host` block for ssh_config with the door's address and host key; it needs no other file. A connection that the
 * user keeps open (`ssh -fNM drover`) is shared. ControlMaster is not set: Nix runs `ssh -O check` beside ssh, and
 * misreads the first bytes of a connection whose master appeared in between.
 */
export function sshConfig({ ssh, identity }: MachineFacts): string {
  if (ssh === undefined) return '';
  return [
    `Host ${SSH_ALIAS}`,
    `  HostName ${ssh.host}`,
    `  Port ${ssh.port}`,
    '  User drover',
    ...(identity === undefined ? [] : [`  IdentityFile "${identity}"`, '  IdentitiesOnly yes']),
    `  HostKeyAlias ${SSH_ALIAS}`,
    `  KnownHostsCommand /bin/echo ${SSH_ALIAS} ${ssh.publicKey}`,
    '  StrictHostKeyChecking yes',
    '  ControlPath ~/.ssh/drover-%p',
    '',
  ].join('\n');
}

export function formatMachine(format: MachineFormat, door: 'socket' | 'ssh', facts: MachineFacts): string {
  switch (format) {
    case 'machines':
      return `${machinesLine(door, facts)}\n`;
    case 'nix.conf':
      return `builders = ${machinesLine(door, facts)}\nbuilders-use-substitutes = true\n`;
    case 'ssh-config':
      return sshConfig(facts);
  }
}
