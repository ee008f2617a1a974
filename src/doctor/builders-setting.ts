import { readFile } from 'node:fs/promises';

/** One machine of Nix's `builders` setting: as much of it as Drover compares. */
export interface Machine {
  readonly store: string;
  readonly systems: readonly string[];
  readonly features: readonly string[];
}

/**
 * Machines that a `builders` setting names: entries separated by newlines or semicolons, `@FILE` in place of what a
 * file holds, and comments (`Machine::parseConfig` in Nix's machines.cc). A file that cannot be read holds none.
 */
export async function readMachines(builders: string): Promise<readonly Machine[]> {
  const entries = builders
    .split(/[\n;]/)
    .map((entry) => entry.replace(/#.*/, '').trim())
    .filter((entry) => entry !== '');
  const machines = await Promise.all(
    entries.map(async (entry) => {
      if (!entry.startsWith('@')) return [parseMachine(entry)];
      const text = await readFile(entry.slice(1), 'utf8').catch(() => '');
      return text.includes('@') && text.trim().startsWith('@') ? [] : await readMachines(text);
    }),
  );
  return machines.flat();
}

function parseMachine(entry: string): Machine {
  const [store = '', systems = '-', , , , features = '-', mandatory = '-'] = entry.split(/\s+/);
  const words = (field: string): string[] => (field === '-' ? [] : field.split(','));
  return { store, systems: words(systems), features: [...words(features), ...words(mandatory)] };
}

/** Whether a machine is this Drover's socket door. */
export function isSocketDoor({ store }: Machine, connectProgram: string): boolean {
  const query = /[?&]remote-program=([^&]*)/.exec(store)?.[1];
  return query !== undefined && safeDecode(query) === connectProgram;
}

function safeDecode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
