#!/usr/bin/env bash
# Regenerates the lock files from pyproject.toml: every version with its hashes, no addresses. Needs uv.
set -euo pipefail
cd "$(dirname "$0")"
compile() {
    echo 'setuptools>=80' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-header --no-annotate pyproject.toml - "$@"
}
compile --extra s3 --extra gcs --extra optuna --extra serve --extra docs --extra dev --output-file requirements-dev.lock
# the other locks use exactly the versions that the tests ran with
tested=$(mktemp)
trap 'rm -f "$tested"' EXIT
grep -E '^[a-z]' requirements-dev.lock | sed 's/ \\$//' >"$tested"
compile --constraints "$tested" --extra serve --output-file requirements.lock
# for definitions of the older service that need it
compile --constraints "$tested" --extra xgboost --output-file requirements-xgboost.lock
# the image supports every kind of bucket and search; the notebook's image extends it
compile --constraints "$tested" --extra s3 --extra gcs --extra optuna --extra serve --output-file requirements-image.lock
compile --constraints "$tested" --extra s3 --extra gcs --extra optuna --extra serve --extra notebook --output-file requirements-notebook.lock
# the benchmark needs the libraries that it compares with, and those of the tests
compile --constraints "$tested" --extra s3 --extra gcs --extra optuna --extra serve --extra docs --extra dev --extra bench --output-file requirements-bench.lock
