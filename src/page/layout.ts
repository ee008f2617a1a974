import type { Status } from '../control/api.js';
import { html, type Html } from './html.js';
import type { Sections } from './live.js';

export interface Page {
  readonly title: string;
  readonly status: Status;
  readonly current?: 'overview' | 'history';
  /** Path of the events that keep it up to date. */
  readonly live?: string;
  readonly content: Html;
}

/** A whole document. It is complete without the script, which only keeps it up to date. */
export function documentOf({ title, status, current, live, content }: Page): string {
  const { version, state, driver, nixVersion } = status;
  const link = (path: string, name: string, key: Page['current']): Html =>
    html`<a href="${path}" ${key === current ? html`aria-current="page"` : null}>${name}</a>`;
  const { markup } = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>${title}</title>
        <link rel="icon" href="/assets/icon.svg" type="image/svg+xml" />
        <link rel="stylesheet" href="/assets/page.css" />
        <script src="/assets/page.js" defer></script>
      </head>
      <body ${live === undefined ? null : html`data-live="${live}"`}>
        <header>
          <a class="brand" href="/"><img src="/assets/icon.svg" alt="" width="20" height="20" />Drover</a>
          <nav>${link('/', 'Overview', 'overview')} ${link('/history', 'History', 'history')}</nav>
          <span class="about"><span class="status ${state}">${state}</span></span>
        </header>
        <main>${content}</main>
        <footer>
          drover ${version}, ${driver} guests with Nix ${nixVersion}.
          <noscript>Without JavaScript this page shows the moment at which it was loaded.</noscript>
          <span class="liveness" role="status"></span>
        </footer>
      </body>
    </html> `;
  return markup;
}

/** Elements that events replace, by their ids. */
export function sectionsOf(sections: Sections): Html {
  return html`${[...sections].map(([id, content]) => html`<section id="${id}">${content}</section>`)}`;
}
