#!/usr/bin/env bash
# All checks: format, lint, types, import contracts, tests. What follows the command goes to pytest: ./run_tests.sh -m faults, or --long
set -euo pipefail
cd "$(dirname "$0")"
. ./environment.sh
environment requirements-dev.lock

ruff format --check .
ruff check .
mypy
lint-imports --no-cache
# three at once on two cores, for the slow ones mostly wait; a file of tests shares its stack, so it stays together; slow files come first
exec python -m pytest -n 3 --dist loadfile --no-loadscope-reorder "$@"
