// check-sdk.mjs DIRECTORY: compares vz-helper/sdk's declarations of Virtualization.framework with DIRECTORY, a
// checkout of madsmtm/objc2-generated, which is generated from Apple's SDK: every class and its superclass, every
// selector, every constant and its value.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const HEADER = 'vz-helper/sdk/frameworks/Virtualization/Virtualization.h';

/** Classes with their superclass, selectors, and constants, as the public metadata have them. */
function readMetadata(directory) {
  const classes = new Map();
  const constants = new Map();
  for (const name of readdirSync(directory)) {
    if (!name.endsWith('.rs')) continue;
    const text = readFileSync(join(directory, name), 'utf8');
    for (const [, parent, own] of text.matchAll(
      /#\[unsafe\(super\(([\w]+)[^\]]*\)\)\][^]*?pub struct (\w+);/g,
    ))
      classes.set(own, { parent, selectors: new Set() });
    for (const [, value, alias] of text.matchAll(
      /#\[doc\(alias = "(\w+)"\)\]\s*pub const \w+: Self = Self\(([-\w]+)\)/g,
    ))
      constants.set(value, Number(alias));
  }
  for (const name of readdirSync(directory)) {
    if (!name.endsWith('.rs')) continue;
    const text = readFileSync(join(directory, name), 'utf8');
    const parts = text.split(/^(?=impl \w+ \{|extern_protocol!)/m);
    for (const part of parts) {
      const owner = /^impl (\w+) \{/.exec(part)?.[1] ?? /pub unsafe trait (\w+)/.exec(part)?.[1];
      if (owner === undefined) continue;
      if (!classes.has(owner)) classes.set(owner, { parent: undefined, selectors: new Set() });
      for (const [, selector] of part.matchAll(/#\[unsafe\(method\(([\w:]+)\)\)\]/g))
        classes.get(owner).selectors.add(selector.replace(/_$/, '')); // it marks an NSError
    }
  }
  return { classes, constants };
}

/** The same of our header. */
function readHeader(file) {
  const text = readFileSync(file, 'utf8').replace(/\/\/.*$/gm, '');
  const declared = [];
  for (const [, kind, own, parent, body] of text.matchAll(
    /@(interface|protocol) (\w+)(?: : (\w+))?([^]*?)@end/g,
  ))
    declared.push({
      kind,
      own,
      parent: parent === 'VZ_ROOT' ? 'NSObject' : parent,
      selectors: selectorsOf(body),
    });
  const constants = new Map();
  for (const [, body] of text.matchAll(/typedef NS_(?:ENUM|OPTIONS)\([^)]*\) \{([^}]*)\}/g)) {
    let next = 0;
    for (const entry of body
      .split(',')
      .map((one) => one.trim())
      .filter((one) => one !== '')) {
      const [name, value] = entry.split('=').map((one) => one.trim());
      next = value === undefined ? next : Number(value);
      constants.set(name.split(/\s/)[0], next);
      next += 1;
    }
  }
  return { declared, constants };
}

function selectorsOf(body) {
  const selectors = [];
  for (const [, words] of body.matchAll(/^\s*[-+] \([^;]*?\)(\w[^;]*);/gm)) {
    const bare = words
      .replace(/\b(?:NS|API)_\w+(?:\([^;]*\))?/g, '')
      .replace(/\((?:[^()]|\([^()]*\))*\)/g, '()');
    const parts = [...bare.matchAll(/(\w+):\(/g)].map(([, part]) => `${part}:`);
    selectors.push(parts.length > 0 ? parts.join('') : bare.trim().split(/\s/)[0]);
  }
  for (const [, attributes = '', rest] of body.matchAll(/@property\s*(?:\(([^)]*)\))?\s*([^;]*);/g)) {
    const names = rest.replace(/API_AVAILABLE\(.*/, '').trim();
    const name = /(\w+)$/.exec(names)?.[1] ?? '';
    selectors.push(/getter=(\w+)/.exec(attributes)?.[1] ?? name);
    if (!attributes.includes('readonly')) selectors.push(`set${name[0].toUpperCase()}${name.slice(1)}:`);
  }
  return selectors;
}

const { classes, constants } = readMetadata(join(process.argv[2] ?? '', 'Virtualization'));
const ours = readHeader(HEADER);
const wrong = [];
let compared = 0;
const has = (owner, selector) => {
  for (let name = owner; classes.has(name); name = classes.get(name).parent)
    if (classes.get(name).selectors.has(selector)) return true;
  return selector === 'init' || selector === 'new'; // NSObject's
};
for (const { own, parent, selectors } of ours.declared) {
  const known = classes.get(own);
  if (known === undefined) wrong.push(`${own}: there is no such class or protocol`);
  else if (parent !== undefined && known.parent !== undefined && known.parent !== parent)
    wrong.push(`${own}: its superclass is ${known.parent}, not ${parent}`);
  for (const selector of selectors) {
    compared += 1;
    if (known !== undefined && !has(own, selector)) wrong.push(`${own}: there is no ${selector}`);
  }
}
for (const [name, value] of ours.constants) {
  compared += 1;
  if (constants.get(name) !== value) wrong.push(`${name}: it is ${constants.get(name)}, not ${value}`);
}
for (const line of wrong) console.log(`${HEADER}: ${line}`);
if (compared < 100) wrong.push('too little was compared');
console.log(
  `${ours.declared.length} classes and protocols, ${compared} selectors and constants compared: ${wrong.length} wrong`,
);
process.exitCode = wrong.length > 0 ? 1 : 0;
