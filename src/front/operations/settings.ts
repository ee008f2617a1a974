import { printable } from '../../lib/printable.js';
import { decodeSetOptions, encodeSetOptions, Op, type SetOptions } from '../../protocol/operations.js';
import { encodeStderrFrame } from '../../protocol/stderr.js';
import { auditedClient } from '../audit.js';
import { answer, capture } from '../relay.js';
import type { OperationContext } from './context.js';

/** Settings that Nix lets any client override (`ClientSettings::apply` in Nix's daemon.cc). */
const OPEN_SETTINGS: ReadonlySet<string> = new Set([
  'timeout',
  'max-silent-time',
  'build-poll-interval',
  'connect-timeout',
]);
/** Settings that Nix itself never takes from a client, without a warning. */
const IGNORED_SETTINGS: ReadonlySet<string> = new Set(['experimental-features', 'ssh-auth-sock']);
const SUBSTITUTERS: ReadonlySet<string> = new Set(['substituters', 'binary-caches']);
/** Maximum number of warnings for one request. Nix has fewer settings than that. */
const MAX_WARNINGS = 500;
/** Maximum length of a setting's name or value in a warning. */
const MAX_SHOWN_LENGTH = 200;

/**
 * SetOptions. The settings of a trusted client go to the guest unchanged; those of another client are
 * filtered as Nix does.
 */
export async function serveSetOptions(context: OperationContext): Promise<void> {
  const { client, identity, placement, policy, version } = context;
  const { value: options, raw } = await capture(client, Op.SetOptions, decodeSetOptions(version));
  // Only the supervisor can show what a guest keeps, so the client's own wish does not count.
  const keepFailed = policy().keepFailedMs > 0;
  const asked = [...options.overrides.keys()];
  if (identity.trusted) {
    auditSettings(context, asked, []);
    const wanted = { ...options, keepFailed };
    await placement.setSettings(options.keepFailed === keepFailed ? raw : [encodeSetOptions(wanted)], wanted);
    await answer(client);
    return;
  }
  const { overrides, dropped, warnings } = restrict(options.overrides, policy().substituters);
  auditSettings(context, asked, dropped);
  noteDropped(context, dropped);
  const allowed = { ...options, overrides, keepFailed };
  await placement.setSettings([encodeSetOptions(allowed)], allowed);
  for (const text of warnings.slice(0, MAX_WARNINGS)) {
    await client.write(encodeStderrFrame({ kind: 'next', text: `warning: ${text}\n` }));
  }
  await answer(client);
}

interface Restricted {
  readonly overrides: SetOptions['overrides'];
  /** Names of settings that were not taken. */
  readonly dropped: readonly string[];
  /** In Nix's own words. */
  readonly warnings: readonly string[];
}

function restrict(overrides: SetOptions['overrides'], substituters: ReadonlySet<string>): Restricted {
  const kept = new Map<string, string>();
  const dropped: string[] = [];
  const warnings: string[] = [];
  for (const [name, value] of overrides) {
    if (OPEN_SETTINGS.has(name) || (name === 'builders' && value === '')) kept.set(name, value);
    else if (SUBSTITUTERS.has(name)) {
      const wanted = value.split(/\s+/).filter((url) => url !== '');
      const untrusted = wanted.filter((url) => !isIn(substituters, url));
      kept.set(name, wanted.filter((url) => isIn(substituters, url)).join(' '));
      if (untrusted.length > 0) dropped.push(name);
      warnings.push(...untrusted.map(untrustedSubstituter));
    } else if (!IGNORED_SETTINGS.has(name)) {
      dropped.push(name);
      warnings.push(restrictedSetting(name));
    }
  }
  return { overrides: kept, dropped, warnings };
}

/** As in Nix, a slash at the end makes no difference. */
function isIn(substituters: ReadonlySet<string>, url: string): boolean {
  return substituters.has(url) || substituters.has(`${url}/`);
}

function restrictedSetting(name: string): string {
  return `ignoring the client-specified setting '${shown(name)}', because it is a restricted setting and you are not a trusted user`;
}

function untrustedSubstituter(url: string): string {
  return (
    `ignoring untrusted substituter '${shown(url)}', you are not a trusted user.\n` +
    'Run `man nix.conf` for more information on the `substituters` configuration option.'
  );
}

function shown(text: string): string {
  return printable(text.slice(0, MAX_SHOWN_LENGTH));
}

/** Reports settings to observers, each once in a session. */
function noteDropped({ id, identity, events, log, noted }: OperationContext, names: readonly string[]): void {
  const fresh = names
    .map(shown)
    .filter((name) => !noted.has(`setting ${name}`))
    .slice(0, MAX_WARNINGS);
  if (fresh.length === 0) return;
  if (noted.size < MAX_WARNINGS) for (const name of fresh) noted.add(`setting ${name}`);
  log.info({ settings: fresh }, 'settings of an untrusted client ignored');
  events.emit({ type: 'settings-refused', session: id, domain: identity.domain, settings: fresh });
}

/** Once for each set of names in a session: Nix sends its settings with every connection, and again before builds. */
function auditSettings(
  { id, audit, identity, noted }: OperationContext,
  asked: readonly string[],
  refused: readonly string[],
): void {
  if (audit === undefined || asked.length === 0) return;
  const fields = {
    asked: asked.slice(0, MAX_WARNINGS).map(shown),
    refused: refused.slice(0, MAX_WARNINGS).map(shown),
  };
  const key = `audited settings ${JSON.stringify(fields)}`;
  if (noted.has(key) || noted.size >= MAX_WARNINGS) return;
  noted.add(key);
  audit.record({ type: 'settings', ...auditedClient(id, identity), ...fields });
}
