import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import puppeteer, { type Browser, type Page } from 'puppeteer-core';

import { REPOSITORY, startDrover, type Drover } from '../support/drover.js';
import { HELD, release } from '../support/guests.js';
import { startPrometheus, type Prometheus } from '../support/prometheus.js';
import { nixHost, succeeded, type NixHost, type NixProcess } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { DEADLINE_MS } from '../support/wait.js';

/** The part of a browser that functions below use there. */
declare const document: {
  readonly title: string;
  readonly body: object;
  readonly documentElement: { readonly scrollWidth: number };
  querySelector(selector: string): { readonly textContent: string } | null;
  querySelectorAll(selector: string): Iterable<{ textContent: string }>;
};
declare function getComputedStyle(element: object): { readonly backgroundColor: string };

const WIDE = { width: 1120, height: 900 };
const PHONE = { width: 390, height: 844 };
/** It writes markup, colours and a title for a terminal, and then a line each second without end. */
const TALKS =
  "printf '<script>document.title=1</script>\\033[31mred\\033[0m\\033]0;evil\\007\\n'; " +
  'i=0; while sleep 1; do i=$((i+1)); echo tick $i; done';

describeE2e('the page in a browser, and a Prometheus beside it', ['chromium', 'prometheus'], () => {
  let drover: Drover;
  let host: NixHost;
  let browser: Browser;
  let prometheus: Prometheus;
  let page: Page;
  let url: string;
  let talks: NixProcess;
  let id: string;
  let guest: string;
  /** Errors of scripts, and violations of the policy. */
  let complaints: string[];

  beforeAll(async () => {
    const metrics = { listen: '127.0.0.1:0' };
    drover = await startDrover({ config: { pool: { maxGuests: 1, jobsPerGuest: 2 }, metrics } });
    host = await nixHost({ drover });
    url = (await drover.status()).page ?? '';
    // It must see each counter before it counts.
    prometheus = await startPrometheus(new URL(url).host);
    browser = await puppeteer.launch({
      executablePath: '/usr/bin/chromium',
      args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
      timeout: DEADLINE_MS,
    });
    // With an input to provide.
    const input = `input = builtins.toFile "e2e-${host.id}-input" "";`;
    succeeded(await host.build(host.derivation('good', 'echo one; echo > $out', input)));
    expect((await host.build(host.derivation('bad', 'echo two; exit 3'))).exitCode).not.toBe(0);
    talks = host.startBuild(host.derivation('talks', TALKS));
    await talks.waitForOutput('tick 1');
    [, id = '', guest = ''] = /drover: build (b\d+) in guest (g\d+)/.exec(talks.stderr) ?? [];
  });
  afterAll(async () => {
    await browser.close();
    await prometheus[Symbol.asyncDispose]();
    await drover.cli('cancel', id);
    await talks.ended;
    await host[Symbol.asyncDispose]();
    await drover[Symbol.asyncDispose]();
  });

  beforeEach(async () => {
    page = await browser.newPage();
    page.setDefaultTimeout(DEADLINE_MS);
    complaints = [];
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warn') complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(String(error)));
    await page.setViewport(WIDE);
  });

  afterEach(async () => {
    await page.close();
  });

  async function open(path: string): Promise<void> {
    const answer = await page.goto(new URL(path, url).href);
    expect({ path, status: answer?.status() }).toEqual({ path, status: 200 });
  }

  async function waitForText(selector: string, text: string): Promise<void> {
    await page.waitForFunction(
      (where: string, what: string) => document.querySelector(where)?.textContent.includes(what) === true,
      { polling: 'mutation' },
      selector,
      text,
    );
  }

  test('fits a phone and a desk under both colour schemes, without a complaint of the browser', async () => {
    const grounds = new Set<string>();
    for (const path of ['/', '/history', `/builds/${id}`, `/guests/${guest}`]) {
      await open(path);
      for (const [viewport, scheme] of [
        [WIDE, 'light'],
        [PHONE, 'light'],
        [PHONE, 'dark'],
      ] as const) {
        await page.setViewport(viewport);
        await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
        const { width, ground } = await page.evaluate(() => {
          // As wide as they become: a build of a day ago that took hours.
          for (const cell of document.querySelectorAll('#recent td.number')) cell.textContent = '23h 59m ago';
          return {
            width: document.documentElement.scrollWidth,
            ground: getComputedStyle(document.body).backgroundColor,
          };
        });
        expect({ path, viewport, fits: width <= viewport.width }).toEqual({ path, viewport, fits: true });
        grounds.add(`${scheme} ${ground}`);
      }
    }
    expect(grounds.size).toBe(2);
    expect(complaints).toEqual([]);
  });

  test('shows a build that begins and ends, without being loaded again', async () => {
    await open('/');
    await waitForText('.liveness', 'live');
    await waitForText('#running', 'talks');
    const next = host.startBuild(host.derivation('comes-later', `echo > $out; ${HELD}`));
    await waitForText('#running', 'comes-later');
    await release(drover.stateDir, guest);
    expect((await next.ended).exitCode).toBe(0);
    await waitForText('#recent', 'comes-later');
    await waitForText('title', '1 building – Drover');
    expect(complaints).toEqual([]);
  });

  test('follows the log of a build, and shows its bytes as text with colours', async () => {
    await open(`/builds/${id}`);
    await waitForText('.liveness', 'live');
    // The stream begins with an empty log, and the whole of it.
    const lastOf = async (least: number) => {
      const found = await page.waitForFunction(
        (from: number) => {
          const text = document.querySelector('#log')?.textContent ?? '';
          const last = Number(/.*tick (\d+)\n/s.exec(text)?.[1]);
          const red = document.querySelector('#log .fg1')?.textContent;
          return last >= from && { text, last, red, title: document.title };
        },
        { polling: 'mutation' },
        least,
      );
      return (await found.jsonValue()) as Exclude<Awaited<ReturnType<typeof found.jsonValue>>, false>;
    };
    const { last } = await lastOf(1);
    const { text, red, title } = await lastOf(last + 2);
    expect(text).toMatch(/^<script>document\.title=1<\/script>red\ntick 1\n/);
    expect(text).not.toContain('evil');
    expect(red).toBe('red');
    expect(title).toMatch(new RegExp(`^${id} .*talks: running – Drover$`));
    expect(complaints).toEqual([]);
  });

  test('reads without JavaScript, and searches by its form', async () => {
    await page.setJavaScriptEnabled(false);
    await open('/');
    expect(await page.content()).toMatch(/talks[^]*good/);
    await open('/history');
    await page.type('input[name=name]', `${host.id}-bad`);
    await Promise.all([page.waitForNavigation(), page.click('form button')]);
    expect(await page.$$eval('tbody tr', (rows) => rows.length)).toBe(1);
    expect(await page.content()).toMatch(/-bad<\/td>/);
    await open(`/builds/${id}`);
    expect(await page.content()).toContain('<span class="fg1">red</span>');
  });

  test('no panel of the dashboard for Grafana is empty', async () => {
    const text = await readFile(join(REPOSITORY, 'packaging/grafana/drover.json'), 'utf8');
    const expressions: string[] = [];
    JSON.parse(text, (key, value: unknown) => {
      // A kernel may measure no pressure.
      const isMeasured = !String(value).includes('pressure') || existsSync('/proc/pressure/cpu');
      if (key === 'expr' && isMeasured) expressions.push(String(value));
      return value;
    });
    expect(expressions.length).toBeGreaterThan(30);
    await prometheus.nextScrape();
    const empty: string[] = [];
    for (const expression of expressions) {
      const values = await prometheus.query(expression.replaceAll('$__rate_interval', '10m'));
      if (values.length === 0 || values.every((value) => Number.isNaN(value))) empty.push(expression);
    }
    expect(empty).toEqual([]);
  });
});
