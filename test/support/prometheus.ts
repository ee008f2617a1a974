import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { stringify } from 'yaml';

import { waitUntil } from './wait.js';

/** Time in seconds, and value. */
type Sample = readonly [number, string];

/** A Prometheus that scrapes a supervisor every second. */
export interface Prometheus extends AsyncDisposable {
  /** Values of all series of an expression when the supervisor was last seen to be scraped. */
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
  const ask = async <Series>(expression: string, time?: number): Promise<readonly Series[]> => {
    const parameters = new URLSearchParams({ query: expression });
    if (time !== undefined) parameters.set('time', String(time));
    const url = `http://${address ?? ''}/api/v1/query?${parameters.toString()}`;
    const { status, error, data } = (await (await fetch(url)).json()) as {
      readonly status: string;
      readonly error?: string;
      readonly data?: { readonly result: readonly Series[] };
    };
    if (status !== 'success') throw new Error(`${expression}: ${error ?? status}`);
    return data?.result ?? [];
  };
  /** Times of scrapes: one that fails, as on a busy machine, is none, and nothing is known at its time. */
  const scrapes = async (): Promise<readonly number[]> => {
    const [up] = await ask<{ readonly values: readonly Sample[] }>('up{job="drover"}[1h]');
    return (up?.values ?? []).filter(([, value]) => value === '1').map(([time]) => time);
  };
  await waitUntil('its address', () => address);
  // It does not answer at once.
  let last = await waitUntil('the first scrape', async () => (await scrapes().catch(() => [])).at(-1));
  return {
    query: async (expression) => {
      const series = await ask<{ readonly value: Sample }>(expression, last);
      return series.map(({ value: [, value] }) => Number(value));
    },
    nextScrape: async () => {
      const before = await scrapes();
      last = await waitUntil('another scrape', async () => {
        const times = await scrapes();
        return times.length > before.length + 1 ? times.at(-1) : undefined;
      });
    },
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await exited;
      await rm(dir, { recursive: true });
    },
  };
}
