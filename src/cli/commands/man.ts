import type { AddCommand } from '../context.js';
import { manPage } from '../man.js';
import { referenceOf } from '../reference.js';

export const addMan: AddCommand = (program, context) => {
  program
    .command('man')
    .description('print the man page: drover man | man -l -')
    .action(() => {
      context.print(manPage(referenceOf(program), context.version));
    });
};
