// check-prose.mjs [FILE...]: checks the English of comments, strings and documentation (by default of every file in
// git) and prints what it finds as FILE:LINE: MESSAGE. Spelling is checked by cspell.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

import ts from 'typescript';

const MAX_WIDTH = 120;
const CHECKED = /\.(ts|js|mjs|md|sh|nix|c|h|m|ya?ml|service)$|^\.ci\/run$|(^|\/)Makefile$/;
const IGNORED =
  /^(test\/fixtures\/|bench\/results\/|demo\/.*\.nix$|package-lock\.json$|cspell\.json$|scripts\/check-prose\.mjs$)/;

/** Forbidden beginnings of comments. */
const OPENERS = [
  [
    /^(What|Of|Who|Whoever|Whether it is to|How (?:long|many|much|often))\b/,
    'start with a noun phrase or a verb, not',
  ],
];

/** Forbidden words of all prose. Names in code, such as the user `nobody`, go in quotes or backquotes. */
const WORDS = [
  [/\b(anew|thrice|in vain)\b/i, 'use a common word for'],
  [/\b(of no use|no good)\b/i, 'name the state (retired, rejected, ...) in place of'],
  [/\b(would else|must else|could else|will else)\b/i, 'use "otherwise" in place of'],
  [
    /(?<!['"`:=/-]|\bsu )\b(nobody|somebody|whoever|whomever|anybody|everybody|someone)\b(?!['"`:/-])/i,
    'name the actor in place of',
  ],
  [
    /\b((?:is|are|was|were|it is|they are) to be)\b/i,
    'use "must be", "will be" or the plain verb in place of',
  ],
  [/\b(ha(?:s|ve|d) not (?:the|a|an))\b/i, 'use "does not have" in place of'],
  [
    /\b((?:it|that|this|what|which) is (?:no (?!longer|more|less|way\b|problem|doubt)[a-z]+|none))\b/i,
    'use "is not a" in place of',
  ],
  [/\b(go(?:es|ne|ing)? on with)\b/i, 'use "continue" or "reuse" in place of'],
];

/** @typedef {{ line: number, text: string, isComment: boolean }} Prose */

/** Comments and strings of TypeScript and JavaScript. Adjacent lines of // are one comment. */
function* ofScript(name, source) {
  const file = ts.createSourceFile(name, source, ts.ScriptTarget.Latest);
  const literals = [];
  const visit = (node) => {
    const isText = ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || isTemplateEnd(node);
    if (isText || ts.isRegularExpressionLiteral(node)) {
      const start = ts.skipTrivia(source, node.pos);
      literals.push({ start, end: node.end });
      // A single word is a name.
      if (isText && /\s/.test(node.text))
        return [{ line: lineOf(source, start), text: node.text, isComment: false }];
    }
    const found = [];
    ts.forEachChild(node, (child) => void found.push(...visit(child)));
    return found;
  };
  yield* visit(file);
  for (const match of source.matchAll(/\/\*[^]*?\*\/|\/\/.*(?:\n\s*\/\/.*)*/g)) {
    const isCode = literals.some(({ start, end }) => start <= match.index && match.index < end);
    if (!isCode) yield { line: lineOf(source, match.index), text: match[0], isComment: true };
  }
}

function isTemplateEnd(node) {
  return ts.isTemplateMiddle(node) || ts.isTemplateTail(node);
}

/** Comments and strings of C and Objective-C. */
function* ofC(_, source) {
  for (const match of source.matchAll(/\/\*[^]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'/g))
    yield { line: lineOf(source, match.index), text: match[0], isComment: match[0].startsWith('/') };
}

/** Comments after "#", in blocks, and the other lines one by one. */
function* ofShell(_, source) {
  const lines = source.split('\n');
  for (let i = 0; i < lines.length; i += 1) {
    const block = [];
    const first = i;
    while (/^\s*#(?!!)/.test(lines[i] ?? '')) block.push(lines[i++]);
    if (block.length > 0) yield { line: first + 1, text: block.join('\n'), isComment: true };
    const [, code = '', comment] = /^(.*?)(?:(?<=\s)#\s+(.*))?$/.exec(lines[i] ?? '') ?? [];
    if (comment !== undefined) yield { line: i + 1, text: `# ${comment}`, isComment: true };
    yield { line: i + 1, text: code, isComment: false };
  }
}

/** Paragraphs of Markdown without code. */
function* ofMarkdown(_, source) {
  const text = source.replace(/^(```|~~~)[^]*?^\1$|(`+)[^`]+?\2/gm, (code) => code.replace(/[^\n]/g, '`'));
  for (const [index, line] of text.split('\n').entries())
    yield { line: index + 1, text: line, isComment: false };
}

function lineOf(source, index) {
  return source.slice(0, index).split('\n').length;
}

function readerOf(name) {
  if (/\.[cm]?[jt]s$/.test(name)) return ofScript;
  if (/\.[chm]$/.test(name)) return ofC;
  return name.endsWith('.md') ? ofMarkdown : ofShell;
}

/** A comment's words, without what marks it as one. */
function wordsOf(comment) {
  return comment.replace(/^\s*(?:\/\*\*?|\*\/|\*|\/{2,3}|#+)\s?|\s*\*\/$/gm, '').trim();
}

function* findings(name, source) {
  const lines = source.split('\n');
  for (const { line, text, isComment } of readerOf(name)(name, source)) {
    const words = isComment ? wordsOf(text) : text;
    const rules = isComment ? [...OPENERS, ...WORDS] : WORDS;
    for (const [pattern, advice] of rules) {
      const match = pattern.exec(words);
      if (match === null) continue;
      const within = words.slice(0, match.index).split('\n').length - 1;
      yield [line + within, `${advice} "${match[1]}"`];
    }
    if (!isComment) continue;
    for (const [index, one] of text.split('\n').entries())
      if (one.trim().length > 0 && (lines[line + index - 1] ?? '').length > MAX_WIDTH && !/\S{60}/.test(one))
        yield [line + index, `a comment is at most ${MAX_WIDTH} columns wide`];
  }
}

const named = process.argv.slice(2);
const files =
  named.length > 0 ? named : execFileSync('git', ['ls-files'], { encoding: 'utf8' }).trimEnd().split('\n');
let found = 0;
for (const file of files.filter((name) => CHECKED.test(name) && !IGNORED.test(name))) {
  let source;
  try {
    source = readFileSync(file, 'utf8');
  } catch (error) {
    // Deleted, and not yet committed.
    if (error.code === 'ENOENT' && named.length === 0) continue;
    throw error;
  }
  for (const [line, message] of findings(file, source)) {
    found += 1;
    console.log(`${file}:${line}: ${message}`);
  }
}
if (found > 0) console.error(`${found} findings; CONTRIBUTING.md says how Drover's English reads`);
process.exitCode = found > 0 ? 1 : 0;
