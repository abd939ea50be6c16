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
# Four at once on two cores, for the slow ones mostly wait. A file of tests shares its stack, so it stays together; slow files come first.
# The containers' tests run beside them: all containers together get the share of one process, so the tests give way to them (nice).
exec nice python -m pytest -n 4 --dist loadfile --no-loadscope-reorder "$@"
