#!/usr/bin/env bash
# From nothing to a result with one command: creates the environment, starts the whole stack on this machine, trains v1 and v2 on generated
# keywords, scores a table with the better one, shows the result, and stops everything.
#
#   ./cold_start.sh           everything, without Docker
#   ./cold_start.sh --keep    leaves the stack running, and shows how to use and stop it
#   ./cold_start.sh --docker  the same in containers; leaves them running, with JupyterLab on port 9999, and shows how to stop them
set -euo pipefail
cd "$(dirname "$0")"

way=once
case "${1:-}" in
    "") ;;
    --keep) way=keep ;;
    --docker) way=docker ;;
    *)
        sed -n '2,8s/^# \{0,1\}//p' "$0"
        [ "$1" = --help ] || [ "$1" = -h ] || exit 2
        exit 0
        ;;
esac

# the default port if it is free, else any other, so that a first try does not fail because of a port
free_port() {
    python -c '
import socket, sys
for port in (int(sys.argv[1]), 0):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just stopped does not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        print(probe.getsockname()[1])
        break' "$1"
}

# creates a key for a store without releases, which signs what is trained; every command finds it in the home of the stack
store_key() {
    [ -z "${SCORING_STORE_KEY:-}${SCORING_STORE_KEY_FILE:-}" ] && [ ! -e "$1" ] || return 0
    if [ -n "$(scoring models list --quiet)" ]; then
        echo "The releases in the bucket are not signed. To sign them: docs/how-to/sign-manifests.md."
        return 0
    fi
    python -c 'import secrets; print(secrets.token_urlsafe(32))' >"$1"
}

start_here() {
    . ./environment.sh
    environment requirements.lock
    # what the stack writes from here on is private, for example its log with a password
    umask 077

    if [ -z "${REDIS_URL:-}" ]; then
        export SCORING_REDIS_PORT=${SCORING_REDIS_PORT:-$(free_port 6389)}
    fi
    export SCORING_FLOWER_PORT=${SCORING_FLOWER_PORT:-$(free_port 5555)}
    export SCORING_SERVE_PORT=${SCORING_SERVE_PORT:-$(free_port 8080)}

    # it contains logs and keys
    umask 077
    home=${SCORING_HOME:-.scoring}
    mkdir -p "$home"
    chmod 700 "$home"
    store_key "$home/store-key"
    log=$home/up.log
    ready=$home/ready.json
    # an old log may be readable by others
    rm -f "$ready" "$log"

    with_http=()
    [ "$way" != keep ] || with_http=(--serve)
    echo "Starting server, workers, beat and Flower (their log: $log) ..."
    # in its own session, so that Ctrl-C here stops it in order, through the trap below
    nohup python -c 'import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])' scoring up "${with_http[@]}" --ready-file "$ready" >"$log" 2>&1 </dev/null &
    stack=$!
    stop() {
        if kill -0 "$stack" 2>/dev/null; then
            echo "Stopping everything ..."
            kill -TERM "$stack" 2>/dev/null || true
            wait "$stack" || true
        fi
    }
    trap stop EXIT
    trap 'exit 130' INT TERM

    for ((tenths = 0; tenths < 900; tenths++)); do
        [ -f "$ready" ] && break
        if ! kill -0 "$stack" 2>/dev/null; then
            echo "The stack did not start. The end of $log:" >&2
            tail -n 15 "$log" >&2
            exit 1
        fi
        sleep 0.1
    done
    [ -f "$ready" ] || { echo "The stack was not ready within 90 seconds; see $log." >&2; exit 1; }
}

start_in_containers() {
    . ./docker_environment.sh
    docker_environment
    check_ports
    check_port notebook "$(port SCORING_NOTEBOOK_PORT 9999)" SCORING_NOTEBOOK_PORT 9999
    keep_environment

    build_candidate worker
    name_candidate "$IMAGE" worker
    start_stack
    # from here on the commands run in the image
    scoring() { in_container "$@"; }
}

if [ "$way" = docker ]; then
    start_in_containers
else
    start_here
fi

echo "Making up keyword tables ..."
tables=$(scoring sample --rows 100000 --train-rows 50000)
echo "$tables"
table=$(echo "$tables" | tail -n 1)
for definition in v1 v2; do
    echo
    echo "Training $definition ..."
    scoring train "$definition" --again
done
best=$(scoring models list --best-first --quiet | sed -n "/^v[12]@/{p;q;}")
echo
echo "Scoring with the better one, $best ..."
channel=()
[ "$way" != keep ] || channel=(--channel live)
job=$(scoring score "$table" --model "$best" "${channel[@]}" --again --no-wait)
# 7: the guard holds the result, such as that of a second start; it is there all the same
scoring jobs show "$job" --follow >/dev/null || [ $? = 7 ]
scoring results show "$job"
echo
echo "The first five rows:"
scoring results head "$job" -n 5

if [ "$way" = keep ]; then
    trap - EXIT
    disown "$stack" 2>/dev/null || true
    echo
    echo "The stack is still running. To use it from here:"
    echo "    . .venv/bin/activate"
    [ -z "${SCORING_REDIS_PORT:-}" ] || [ "$SCORING_REDIS_PORT" = 6389 ] || echo "    export SCORING_REDIS_PORT=$SCORING_REDIS_PORT"
    echo "    scoring results list"
    python -c '
import json, sys
ready = json.load(open(sys.argv[1]))
print("Flower: {flower_url}  user: {flower_user}  password: flower_password in {ready}".format(**ready, ready=sys.argv[1]))' "$ready"
    scoring models promote "$best" --reason "the first one" >/dev/null
    key=$(scoring results head "$job" -n 1 --json | python -c 'import json, sys; print("{entity_id}/{device}".format(**json.load(sys.stdin)[0]))')
    url=$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["http_url"])' "$ready")
    echo "Rates over HTTP, with examples to try: $url/docs"
    echo "    curl $url/v1/rates/$key"
    echo "Stop it with: kill $stack"
elif [ "$way" = docker ]; then
    echo
    build_candidate notebook
    name_candidate "$NOTEBOOK_IMAGE" notebook
    start notebook
    drop_old_images
    echo
    echo "Everything is still running. To use it from here:"
    echo "    ${compose[*]} run --rm producer results list"
    echo "JupyterLab: http://localhost:$(port SCORING_NOTEBOOK_PORT 9999)/lab/tree/analytics/analytics.ipynb  its token: SCORING_NOTEBOOK_TOKEN in .env"
    echo "Flower: http://localhost:$(port SCORING_FLOWER_PORT 5555)  user: scoring  password: SCORING_FLOWER_PASSWORD in .env"
    echo "Stop it with: ${compose[*]} --profile notebook down"
fi
