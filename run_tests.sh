#!/usr/bin/env bash
# All checks: format, lint, types, import contracts, tests. What follows the command goes to pytest: ./run_tests.sh -m faults, or --long
set -euo pipefail
cd "$(dirname "$0")"
. ./environment.sh
environment requirements-dev.lock

# what was compiled is kept, or each of the many processes compiles it again
unset PYTHONDONTWRITEBYTECODE

ruff format --check .
ruff check .
mypy
lint-imports --no-cache
# four at once on two cores, for the slow ones mostly wait; a file of tests shares its stack, so it stays together; slow files come first
together=(-n 4 --dist loadfile --no-loadscope-reorder)
if [ $# -gt 0 ]; then
    exec python -m pytest "${together[@]}" "$@"
fi
# containers share one part of the processors among them, however many there are: beside other tests they would starve
python -m pytest -m docker
python -m pytest -m "not docker" "${together[@]}"
