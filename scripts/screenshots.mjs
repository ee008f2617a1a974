// screenshots.mjs [DIR]: runs the demo and takes the pictures of the page for the README while it builds, into DIR
// (default: docs/images). Needs root, Debian's chromium, and what `npm run demo` needs.
import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { createInterface } from 'node:readline';

import puppeteer from 'puppeteer-core';

const directory = process.argv[2] ?? 'docs/images';
/** Builds that have ended, and that go on, in the pictures. */
const ENDED = 5;
const RUNNING = 4;

const WIDE = { width: 1120, height: 900, deviceScaleFactor: 1 };

await mkdir(directory, { recursive: true });
const demo = spawn('node', ['dist/demo/demo/main.js', '--cache', '.cache/demo'], {
  stdio: ['ignore', 'pipe', 'inherit'],
});
const address = new Promise((resolve, reject) => {
  createInterface({ input: demo.stdout }).on('line', (line) => {
    const [url] = /http:\/\/127\.0\.0\.1:\d+\//.exec(line) ?? [];
    if (url !== undefined) resolve(url);
    console.log(line);
  });
  demo.once('exit', (status) => reject(new Error(`the demo ended with ${status}`)));
});
const browser = await puppeteer.launch({
  executablePath: '/usr/bin/chromium',
  protocolTimeout: 900_000,
  args: ['--no-sandbox', '--disable-gpu', '--hide-scrollbars'],
});
try {
  const url = await address;
  const page = await browser.newPage();
  await page.setViewport(WIDE);
  await page.goto(url);
  // The page is up to date by itself.
  await page.waitForFunction(
    ({ ended, running }) =>
      document.querySelectorAll('.bar.good').length >= ended &&
      document.querySelectorAll('#running tbody tr').length >= running,
    { timeout: 900_000, polling: 'mutation' },
    { ended: ENDED, running: RUNNING },
  );
  const take = async (name, path, { viewport = WIDE, scheme = 'light' } = {}) => {
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
    await page.setViewport(viewport);
    await page.goto(new URL(path, url).href);
    await page.screenshot({ path: `${directory}/${name}.png` });
  };
  const build = await page.$eval('#running tbody tr a', (link) => link.getAttribute('href'));
  await take('overview', '/');
  await take('overview-dark', '/', { scheme: 'dark' });
  await take('build', build, { viewport: { ...WIDE, height: 800 } });
} finally {
  await browser.close();
  demo.kill('SIGTERM');
}
