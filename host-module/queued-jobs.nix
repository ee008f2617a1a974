# Jobs that Nix is told of beyond those that guests have room for; as in src/cli/commands/machines.ts.
128
