import { z } from 'zod';

import { showValue } from './errors.js';

/**
 * Extra settings for a guest's nix.conf: a map of setting names to text, numbers, booleans or lists
 * of words → the text after `name = `.
 */
export const nixConf = z.unknown().transform((value, context): Readonly<Record<string, string>> => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    context.addIssue({
      code: 'custom',
      message: `expected a map of Nix settings, got ${showValue(value)}`,
      input: value,
    });
    return z.NEVER;
  }
  const settings: [string, string][] = [];
  // Not z.record, which silently skips the key __proto__.
  for (const [name, setting] of Object.entries(value)) {
    const reason = nameProblem(name) ?? settingProblem(setting) ?? programProblem(name, render(setting));
    if (reason === undefined) settings.push([name, render(setting)]);
    else context.addIssue({ code: 'custom', message: reason, path: [name], input: setting });
  }
  return Object.fromEntries(settings);
});

function nameProblem(name: string): string | undefined {
  if (name === 'min-free') {
    return 'guests do not collect garbage, because that would delete inputs of running builds; see guest.scratchSize';
  }
  // nix.conf reads `include` as a command, not as a setting.
  if (/^[a-z][a-z0-9-]*$/.test(name) && name !== 'include') return undefined;
  return 'this is not the name of a Nix setting (lowercase letters, digits and -)';
}

/** Settings that name programs or plugins. Guests do not have the host's. */
const PROGRAM_SETTINGS = ['pre-build-hook', 'post-build-hook', 'diff-hook', 'build-hook', 'plugin-files'];

function programProblem(name: string, value: string): string | undefined {
  if (!PROGRAM_SETTINGS.includes(name)) return undefined;
  const outside = value.split(/\s+/).find((word) => word !== '' && !word.startsWith('/nix/store/'));
  if (outside === undefined) return undefined;
  return `guests do not have ${outside}: name a program in /nix/store, which they share`;
}

function settingProblem(setting: unknown): string | undefined {
  if (Array.isArray(setting)) {
    const odd: unknown = setting.find((item) => typeof item !== 'string' || !/^\S+$/.test(item));
    if (odd !== undefined) return `expected a list of words without spaces, got one with ${showValue(odd)}`;
  } else if (typeof setting === 'number') {
    if (!Number.isFinite(setting) || Math.abs(setting) > Number.MAX_SAFE_INTEGER) {
      return `the number ${setting} cannot be represented exactly; put it in quotes`;
    }
  } else if (typeof setting !== 'string' && typeof setting !== 'boolean') {
    return `expected text, a number, true, false or a list of words, got ${showValue(setting)}`;
  }
  const text = render(setting);
  if (/[\u0000-\u0008\u000a-\u001f\u007f]/.test(text))
    return 'a setting must be one line without control characters';
  if (text.includes('#'))
    return `nix.conf has no way to write a #, which starts a comment there: ${showValue(text)}`;
  return undefined;
}

function render(setting: unknown): string {
  return Array.isArray(setting) ? setting.join(' ') : String(setting);
}
