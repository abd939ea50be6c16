#!/usr/bin/env bash
# All checks: format, lint, types, import contracts, tests. Further arguments are passed to pytest: ./run_tests.sh -m faults, or --long
set -euo pipefail
cd "$(dirname "$0")"
. ./environment.sh
environment requirements-dev.lock

ruff format --check .
ruff check .
# Four processes on two cores, because slow tests mostly wait. A test file shares its stack, so it stays together; slow files come first.
together=(-n 4 --dist loadfile --no-loadscope-reorder)
if [ $# -gt 0 ]; then
    mypy
    lint-imports --no-cache
    exec python -m pytest "${together[@]}" "$@"
fi
# All containers together get the CPU share of one process, so beside their tests run only nice processes: the other checks and the unit
# tests. These go on beside the rest; what they print follows at the end.
said=$(mktemp)
trap 'rm -f "$said"' EXIT
nice -n 10 bash -euc 'mypy; lint-imports --no-cache; python -m pytest tests/unit -n 2 --dist loadfile' >"$said" 2>&1 &
units=0 containers=0 others=0
python -m pytest -m docker tests/acceptance || containers=$?
python -m pytest -m "not docker" --ignore tests/unit "${together[@]}" || others=$?
wait "$!" || units=$?
cat "$said"
[ "$units" = 0 ] && [ "$containers" = 0 ] && [ "$others" = 0 ]
