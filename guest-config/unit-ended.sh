#!/bin/sh
# unit-ended.sh NAME...: reports on the console that a unit has ended, and how. systemd runs it as
# ExecStopPost, with the variables SERVICE_RESULT, EXIT_CODE and EXIT_STATUS.
set -eu
echo "drover: $* has ended: ${SERVICE_RESULT:-unknown} (${EXIT_CODE:-unknown} ${EXIT_STATUS:-})" >> "${DROVER_CONSOLE:-/dev/console}"
