import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { stringify } from 'yaml';

import { waitUntil } from './wait.js';

/** A Prometheus that scrapes a supervisor every second. */
export interface Prometheus extends AsyncDisposable {
  /** Values of all series of an expression at this moment. */
  query(expression: string): Promise<readonly number[]>;
  /** Settles when the supervisor has been scraped once more. */
  nextScrape(): Promise<void>;
}

/** Starts one, and waits for its first scrape. @param target host and port of the metrics */
export async function startPrometheus(target: string): Promise<Prometheus> {
  const dir = await mkdtemp('/tmp/prometheus-');
  const config = {
    global: { scrape_interval: '1s' },
    scrape_configs: [{ job_name: 'drover', static_configs: [{ targets: [target] }] }],
  };
  await writeFile(join(dir, 'prometheus.yml'), stringify(config));
  const args = [
    `--config.file=${join(dir, 'prometheus.yml')}`,
    `--storage.tsdb.path=${join(dir, 'data')}`,
    '--web.listen-address=127.0.0.1:0',
  ];
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'prometheus', ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exited = once(child, 'exit');
  let address: string | undefined;
  createInterface({ input: child.stderr }).on('line', (line) => {
    address ??= /msg="Listening on" address=(\S+)/.exec(line)?.[1];
  });
  const query = async (expression: string): Promise<number[]> => {
    const url = `http://${address ?? ''}/api/v1/query?query=${encodeURIComponent(expression)}`;
    const { status, error, data } = (await (await fetch(url)).json()) as {
      readonly status: string;
      readonly error?: string;
      readonly data?: { readonly result: readonly { readonly value: readonly [number, string] }[] };
    };
    if (status !== 'success') throw new Error(`${expression}: ${error ?? status}`);
    return (data?.result ?? []).map(({ value: [, value] }) => Number(value));
  };
  const scrapes = async (): Promise<number> => {
    const [number = 0] = await query('count_over_time(up{job="drover"}[1h])');
    return number;
  };
  await waitUntil('its address', () => address);
  // It does not answer at once.
  await waitUntil('the first scrape', async () => (await scrapes().catch(() => 0)) > 0);
  return {
    query,
    nextScrape: async () => {
      const before = await scrapes();
      await waitUntil('another scrape', async () => (await scrapes()) > before + 1);
    },
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await exited;
      await rm(dir, { recursive: true });
    },
  };
}
