# Sourced by cold_start.sh and run_tests.sh: `environment LOCKFILE` creates .venv from that lock file, once, and puts it on the PATH.
# It needs only Python 3.11 or newer and a package registry; a missing requirement is reported in one sentence.

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "No Python 3.11 or newer was found: install one, or name it, as in PYTHON=/path/to/python3.12 $0" >&2
    exit 1
}

environment() {
    local lock=$1 python wanted
    python=$(find_python) || exit 1
    # created again for another Python, for other libraries, or after the folder was moved
    wanted="$("$python" -c '
import hashlib, os, sys
made_from = b"".join(open(name, "rb").read() for name in sys.argv[1:])
print(sys.version_info[:2], hashlib.sha256(made_from).hexdigest(), os.getcwd())' "$lock" pyproject.toml)"
    # the environment with the libraries of the tests also serves for everything else
    if [ "$lock" = requirements.lock ] && [ -f .venv/made-from-requirements-dev.lock ]; then
        environment requirements-dev.lock
        return
    fi
    if [ "$(cat ".venv/made-from-$lock" 2>/dev/null)" != "$wanted" ]; then
        echo "Making the environment .venv from $lock with $("$python" --version) ..."
        rm -rf .venv
        if ! "$python" -m venv .venv; then
            echo "Python's venv module does not work here: install it (on Debian and Ubuntu: apt-get install python3-venv) and start again." >&2
            exit 1
        fi
        # compiling 16,000 files takes a minute, and most of them are never imported
        if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --requirement "$lock" ||
            ! .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; then
            echo "The libraries could not be installed: check that the package registry can be reached, then start again." >&2
            exit 1
        fi
        echo "$wanted" >".venv/made-from-$lock"
    fi
    # the first process that imports a file keeps its bytecode, or each of the many processes compiles it again
    unset PYTHONDONTWRITEBYTECODE
    PATH="$PWD/.venv/bin:$PATH"
    export PATH
}
