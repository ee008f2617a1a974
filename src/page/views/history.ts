import type { BuildReport } from '../../control/api.js';
import { parseBuildId } from '../../lib/human.js';
import { html, type Html } from '../html.js';
import { buildTable } from './build-table.js';
import { HOUR_MS } from './timeline.js';

/** Builds on one page. */
export const PAGE_BUILDS = 50;

/** Time spans that one can choose, by their value in the form. */
const SPANS = new Map([
  ['', ['any time', undefined]],
  ['1h', ['last hour', HOUR_MS]],
  ['1d', ['last day', 24 * HOUR_MS]],
  ['7d', ['last week', 7 * 24 * HOUR_MS]],
] as const);
type Span = typeof SPANS extends Map<infer S, unknown> ? S : never;

/** The content of the form. */
export interface Search {
  readonly name: string;
  readonly failed: boolean;
  readonly span: Span;
  /** Number of the build after the first one to show. */
  readonly before: number | undefined;
}

export function searchOf(params: URLSearchParams): Search {
  const span = params.get('since') ?? '';
  return {
    name: (params.get('name') ?? '').trim().slice(0, 200),
    failed: params.has('failed'),
    span: isSpan(span) ? span : '',
    before: parseBuildId(params.get('before') ?? ''),
  };
}

function isSpan(text: string): text is Span {
  return (SPANS as ReadonlyMap<string, unknown>).has(text);
}

/** The same as a question to the history: one build more than a page has tells whether there is a next one. */
export function queryOf({ name, failed, span, before }: Search, now: number) {
  const spanMs = SPANS.get(span)?.[1];
  return {
    failed,
    names: name === '' ? [] : name.split(/\s+/),
    limit: PAGE_BUILDS + 1,
    ...(spanMs === undefined ? {} : { since: now - spanMs }),
    ...(before === undefined ? {} : { before }),
  };
}

export function history(builds: readonly BuildReport[], search: Search, now: number): Html {
  const shown = builds.slice(0, PAGE_BUILDS);
  const isFiltered = search.name !== '' || search.failed || search.span !== '';
  return html`<h1>History</h1>
    ${form(search)}
    ${
      shown.length === 0
        ? html`<p class="empty">
            ${isFiltered ? 'No build fits.' : 'No builds yet.'}
            ${isFiltered ? html`<a href="/history">Show all</a>` : null}
          </p>`
        : buildTable(shown, now)
    }
    ${builds.length > PAGE_BUILDS ? html`<p><a href="${nextPage(search, shown)}">Earlier builds</a></p>` : null}`;
}

function form({ name, failed, span }: Search): Html {
  return html`<form class="search" action="/history" role="search">
    <input
      type="search"
      name="name"
      value="${name}"
      placeholder="part of a name"
      aria-label="Name"
      maxlength="200"
    />
    <select name="since" aria-label="Time">
      ${[...SPANS].map(
        ([value, [text]]) =>
          html`<option value="${value}" ${value === span ? html`selected` : null}>${text}</option>`,
      )}
    </select>
    <label><input type="checkbox" name="failed" ${failed ? html`checked` : null} /> failed only</label>
    <button>Search</button>
  </form>`;
}

function nextPage({ name, failed, span }: Search, shown: readonly BuildReport[]): string {
  const params = new URLSearchParams({
    ...(name === '' ? {} : { name }),
    ...(span === '' ? {} : { since: span }),
    ...(failed ? { failed: 'on' } : {}),
    before: shown.at(-1)?.id ?? '',
  });
  return `/history?${params.toString()}`;
}
