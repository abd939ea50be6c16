#!/usr/bin/env bash
# All checks: format, lint, types, import contracts, tests. Further arguments are passed to pytest: ./run_tests.sh -m faults, or --long
set -euo pipefail
cd "$(dirname "$0")"
. ./environment.sh
environment requirements-dev.lock

# keep bytecode, or each of the many processes compiles it again
unset PYTHONDONTWRITEBYTECODE

ruff format --check .
ruff check .
mypy
lint-imports --no-cache
# Four processes on two cores, because slow tests mostly wait. A test file shares its stack, so it stays together; slow files come first.
together=(-n 4 --dist loadfile --no-loadscope-reorder)
if [ $# -gt 0 ]; then
    exec python -m pytest "${together[@]}" "$@"
fi
# All containers together get the CPU share of one process, so their tests do not run beside the others.
python -m pytest -m docker
python -m pytest -m "not docker" "${together[@]}"
