#!/bin/sh
# console-shell.sh SHELL: a login shell for the user of `drover vm`, on the console, which is this program's input and
# output. The kernel's parameter drover.console=COLUMNSxROWS,TERM says what terminal is at the other end.
set -eu
read -r cmdline < "${DROVER_PROC:-/proc}/cmdline"
terminal=80x24,dumb
for word in $cmdline; do
  case $word in drover.console=*) terminal=${word#*=} ;; esac
done
size=${terminal%%,*}
stty cols "${size%x*}" rows "${size#*x}"
export HOME=/root TERM="${terminal#*,}"
cd "$HOME" || cd /
exec "$1" -l
