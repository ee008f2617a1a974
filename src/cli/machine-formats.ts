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
  /** Alias of the ssh door in ssh_config. */
  readonly name: string;
  /** Private key that clients of the ssh door use; undefined: ssh's own choice. */
  readonly identity: string | undefined;
}

/**
 * One line of Nix's machines file: store, systems, ssh key, jobs, speed, features, mandatory features, host key in
 * base 64 (`Machine::parseConfig` in Nix's machines.cc).
 *
 * For the host `localhost`, Nix runs the program instead of ssh. At the ssh door the program is ssh itself: if Nix ran
 * it, it would also run `ssh -O check`, and misread the first bytes of a connection whose master appeared in between.
 */
export function machinesLine(door: 'socket' | 'ssh', facts: MachineFacts): string {
  const { systems, maxJobs, features } = facts;
  const program = door === 'socket' ? facts.connect : `ssh ${sharedAlias(facts.name)} nix-daemon`;
  return [
    `ssh-ng://localhost?remote-program=${encodeURIComponent(program).replaceAll('%2F', '/')}`,
    ...[systems.join(','), '-', String(maxJobs), '1', features.join(',') || '-', '-', '-'],
  ].join(' ');
}

/** Alias under which builds share one connection, which ssh opens with the first of them. */
function sharedAlias(name: string): string {
  return `${name}-shared`;
}

/**
 * `Host` blocks for ssh_config with the door's address and host key; they need no other file. The shared connection
 * ends after ten minutes without a build. Its socket is in the home directory, which exists: where ssh cannot make it,
 * it fails.
 */
export function sshConfig({ ssh, identity, name }: MachineFacts): string {
  if (ssh === undefined) return '';
  return [
    `Host ${name} ${sharedAlias(name)}`,
    `  HostName ${ssh.host}`,
    `  Port ${ssh.port}`,
    '  User drover',
    ...(identity === undefined ? [] : [`  IdentityFile "${identity}"`, '  IdentitiesOnly yes']),
    `  HostKeyAlias ${name}`,
    `  KnownHostsCommand /bin/echo ${name} ${ssh.publicKey}`,
    '  StrictHostKeyChecking yes',
    // Nix starts nothing else while it connects.
    '  ConnectTimeout 5',
    '  ServerAliveInterval 15',
    `Host ${sharedAlias(name)}`,
    '  ControlMaster auto',
    '  ControlPath ~/.%n',
    '  ControlPersist 10m',
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
