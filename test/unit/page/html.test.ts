import { describe, expect, test } from '@jest/globals';

import { AnsiRenderer } from '../../../src/page/ansi.js';
import { html } from '../../../src/page/html.js';
import { HOSTILE } from '../../support/page.js';
import fc from '../../support/property.js';

function rendered(...pieces: string[]): string {
  const ansi = new AnsiRenderer();
  return pieces.map((piece) => ansi.render(piece).markup).join('');
}

describe('templates of markup', () => {
  test('escape every text, in elements and in attributes', () => {
    const { markup } = html`<a title="${HOSTILE}">${[HOSTILE, html`<b>${7}</b>`, null, undefined]}</a>`;
    const escaped =
      '&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&#96;&amp;\\u001b]0;evil\\u0007\\u202etxt';
    expect(markup).toBe(`<a title="${escaped}">${escaped}<b>7</b></a>`);
  });

  test('leave no character of any text that could end an attribute or begin an element', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(html`${text}`.markup).not.toMatch(/[<>"'`]|[^\P{Cc}\n\t]|\p{Cf}/u);
      }),
    );
  });
});

describe('the renderer of logs', () => {
  test('turns colours and attributes into classes, and keeps them from one piece to the next', () => {
    expect(rendered('\u001b[1;31m!error:\u001b[0m bad\n')).toBe(
      '<span class="bold fg1">!error:</span> bad\n',
    );
    expect(rendered('\u001b[92;4ma', 'b\u001b[39mc\u001b[24md')).toBe(
      '<span class="underlined fg10">a</span><span class="underlined fg10">b</span><span class="underlined">c</span>d',
    );
    expect(rendered('\u001b[38;5;3mx\u001b[38;2;1;2;3my\u001b[48;5;200mz\u001b[mw')).toBe(
      '<span class="fg3">x</span>yzw',
    );
  });

  test.each([
    ['a title', '\u001b]0;evil\u0007x'],
    ['a link', '\u001b]8;;https://evil.example\u001b\\x\u001b]8;;\u001b\\'],
    ['movements of the cursor', '\u001b[2J\u001b[1;1H\u001b[?25lx\u001b[K'],
    ['a device control string', '\u001bP+q544e\u001b\\x'],
    ['a reset, and a lone escape', '\u001bcx\u001b'],
  ])('leaves out %s', (_what, text) => {
    expect(rendered(text)).toBe('x');
  });

  test('ends a string that nothing ends with its line', () => {
    expect(rendered('\u001b]0;never ends\nnext\n')).toBe('\nnext\n');
  });

  test('makes lines of a progress bar, and shows what cannot be seen', () => {
    expect(rendered('10 %\r20 %\r\ndone\u0000\u202e\n')).toBe('10 %\n20 %\ndone\\u0000\\u202e\n');
  });

  test('makes nothing but spans with classes of any text', () => {
    const unit = fc.constantFrom('\u001b', '[', ']', '3', '1', ';', 'm', '<', '"', '\u009b', 'P', '\n', 'x');
    fc.assert(
      fc.property(fc.string({ unit }), (text) => {
        const rest = rendered(text).replace(/<span class="[a-z0-9 ]+">([^<>"]*)<\/span>/g, '$1');
        expect(rest).not.toMatch(/[<>"]|[^\P{Cc}\n\t]/u);
      }),
    );
  });
});
