#!/usr/bin/env bash
# Makes the lock files anew from pyproject.toml: every version with its hashes, no addresses. Needs uv.
set -euo pipefail
cd "$(dirname "$0")"
compile() {
    echo 'setuptools>=80' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-header --no-annotate pyproject.toml - "$@"
}
compile --extra s3 --extra gcs --extra dev --output-file requirements-dev.lock
# the runtime lock takes the very versions that the tests ran with
compile --constraints <(grep -E '^[a-z]' requirements-dev.lock | sed 's/ \\$//') --output-file requirements.lock
