// watched.mjs DIST FILE: prints the directories in which a supervisor (its program is in DIST) watches for changes of
// its configuration FILE on this machine. On macOS /etc is a link in the disk's root, which must not be one of them.
import { join, resolve } from 'node:path';
import { argv } from 'node:process';
import { pathToFileURL } from 'node:url';

const [dist = '', file = ''] = argv.slice(2);
const { watchedDirectories } = await import(pathToFileURL(join(resolve(dist), 'config/watch.js')).href);
const directories = await watchedDirectories(file);
console.log(directories.join('\n'));
if (directories.length === 0 || directories.includes('/')) {
  console.error(`watched: ${file} is watched in the disk's root, or nowhere`);
  process.exitCode = 1;
}
