import { readFile } from 'node:fs/promises';

const TYPES = {
  'page.css': 'text/css; charset=utf-8',
  'page.js': 'text/javascript; charset=utf-8',
  'icon.svg': 'image/svg+xml',
} as const;

export interface Asset {
  readonly type: string;
  readonly body: string;
}

/** Files of the page by their paths. scripts/build.sh puts them beside the compiled program. */
export async function loadAssets(): Promise<ReadonlyMap<string, Asset>> {
  const files = Object.entries(TYPES).map(async ([name, type]) => {
    const body = await readFile(new URL(`assets/${name}`, import.meta.url), 'utf8');
    return [`/assets/${name}`, { type, body }] as const;
  });
  return new Map(await Promise.all(files));
}
