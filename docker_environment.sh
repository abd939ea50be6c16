#!/usr/bin/env bash
# Creates what docker-compose.yml needs: .env with new passwords, the secret files in .secrets/, and the bucket's folder. Run it once before
# the first `docker-compose up -d`, and again after a change of a secret in .env. cold_start.sh and build_pipelines.sh run it themselves.
#
# They source this file: `docker_environment` checks Docker and compose, creates all of that, and sets `compose` to the command to use.
# A missing requirement ends it with one sentence.

# docker-compose or its plugin, as an array; set by find_compose
compose=()

refuse() {
    echo "$*" >&2
    exit 1
}

# is_at_least 19.03 28.2.2
is_at_least() {
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | sed -n 1p)" = "$1" ]
}

check_docker() {
    local version answer
    command -v docker >/dev/null ||
        refuse "Docker is not installed: install it (https://docs.docker.com/engine/install/), or run ./cold_start.sh without --docker."
    version=$(docker --version | sed -n 's/^Docker version \([0-9.]*\).*/\1/p')
    is_at_least 19.03 "${version:-0}" || refuse "Docker is too old, ${version:-of an unknown version}: install 19.03 or newer."
    answer=$(docker version --format '{{.Server.Version}}' 2>&1) || case $answer in
    *"permission denied"*)
        refuse "You may not use Docker: type sudo usermod -aG docker ${USER:-$(id -un)}, log in again, and start again."
        ;;
    *)
        refuse "Docker is installed but not running: start it (sudo systemctl start docker, or open Docker Desktop), and start again."
        ;;
    esac
    answer=${answer##*$'\n'} # a warning may precede it
    is_at_least 19.03 "$answer" || refuse "The Docker engine is too old, $answer: install 19.03 or newer."
}

find_compose() {
    local version
    if docker compose version >/dev/null 2>&1; then
        compose=(docker compose)
        return
    fi
    command -v docker-compose >/dev/null ||
        refuse "Docker Compose is not installed: install its plugin (https://docs.docker.com/compose/install/)."
    version=$(docker-compose version --short 2>/dev/null | sed 's/^v//')
    is_at_least 1.29 "${version:-0}" || refuse "Docker Compose is too old, ${version:-of an unknown version}: install 1.29 or newer."
    compose=(docker-compose)
}

# setting NAME: prints its value as compose sees it, from the environment or from .env; empty if unset
setting() {
    echo "${!1:-$(sed -n "s/^$1=//p" .env | tail -n 1)}"
}

# port NAME DEFAULT
port() {
    local number
    number=$(setting "$1")
    echo "${number:-$2}"
}

# of_file NAME: prints its value in .env; empty if it has none there
of_file() {
    sed -n "s/^$1=//p" .env | tail -n 1
}

# put NAME VALUE: writes it into .env
put() {
    (umask 077 && sed "/^$1=/d" .env >.env.new && echo "$1=$2" >>.env.new)
    mv .env.new .env
}

# settle NAME VALUE: writes it into .env unless it has a value there or in the environment
settle() {
    [ -n "$(setting "$1")" ] || put "$1" "$2"
}

# Settings that docker-compose reads from the environment before .env. A value from the environment must hold for every later command,
# so it is written into .env once all checks have passed.
KEPT="MODEL_VER BUCKET_URL SCORING_BUCKET SCORING_IMAGE_TAG SCORING_WORKERS SCORING_PROCESSES SCORING_WORKER_MEMORY SCORING_WORKER_CPUS
SCORING_FLOWER_PORT SCORING_NOTEBOOK_PORT SCORING_PROMETHEUS_PORT SCORING_GRAFANA_PORT"

keep_environment() {
    local name
    for name in $KEPT; do
        [ -z "${!name:-}" ] || [ "${!name}" = "$(of_file "$name")" ] || {
            echo "$name=${!name} of the environment is kept in .env, for later commands too."
            put "$name" "${!name}"
        }
    done
    own_settings
}

random_secret() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

make_settings() {
    local name uid gid
    # with sudo, the files belong to the calling user; processes of root itself run as the image's user
    uid=${SUDO_UID:-$(id -u)} gid=${SUDO_GID:-$(id -g)}
    [ "$uid" != 0 ] || uid=1000 gid=1000
    if [ ! -f .env ]; then
        echo "Making .env, with new passwords ..."
        (umask 077 && grep -v '^SCORING_[UG]ID=' .env.example >.env)
    fi
    # an editor may have omitted the last line feed, and appended text would become part of that line
    [ -z "$(tail -c 1 .env)" ] || echo >>.env
    settle SCORING_UID "$uid"
    settle SCORING_GID "$gid"
    for name in REDIS_PASSWORD SCORING_FLOWER_PASSWORD SCORING_NOTEBOOK_TOKEN; do
        settle "$name" "$(random_secret)"
    done
    settle SCORING_SERVE_TOKENS "rates:$(random_secret),jobs:$(random_secret)"
    settle SCORING_WORKER_MEMORY "$(memory_of_worker)m"
    settle_store_key
    own_settings
}

# memory_of_worker: prints the MB for a training and for each of its processes, which take 350 each while they score
memory_of_worker() {
    local processes memory
    processes=$(setting SCORING_PROCESSES)
    processes=${processes:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)}
    memory=$((2048 + 512 * processes))
    echo "$((memory > 4096 ? memory : 4096))"
}

# files that root writes must belong to the user
own_settings() {
    [ "$(id -u)" != 0 ] || chown "$(setting SCORING_UID):$(setting SCORING_GID)" .env
}

# A new stack signs its releases and results. With unsigned releases in the bucket, signing would reject them all, so a person decides.
settle_store_key() {
    [ -z "$(setting SCORING_STORE_KEY)" ] || return 0
    ! grep -q '^SCORING_STORE_KEY_FILE=' .env || return 0
    if [ -z "$(setting BUCKET_URL)" ] && [ -z "$(ls "$(bucket_folder)/model" 2>/dev/null)" ]; then
        put SCORING_STORE_KEY "$(random_secret)"
    else
        echo "The bucket may hold unsigned releases, so nothing is signed yet: see docs/how-to/sign-manifests.md." >&2
        put SCORING_STORE_KEY_FILE ""
    fi
}

bucket_folder() {
    local folder
    folder=$(setting SCORING_BUCKET)
    echo "${folder:-./bucket}"
}

make_bucket() {
    local bucket
    bucket=$(bucket_folder)
    # created here, because Docker would create it for root only; tables and rates are private
    (umask 077 && mkdir -p "$bucket")
    [ "$(id -u)" != 0 ] || chown -R "$(setting SCORING_UID):$(setting SCORING_GID)" "$bucket"
}

# secret NAME VALUE: writes one file for the containers that need it
secret() {
    printf '%s' "$2" >".secrets/$1.new"
    mv ".secrets/$1.new" ".secrets/$1"
}

# make_secrets: writes the secrets of .env to files; docker-compose.yml says which container gets which
make_secrets() {
    local redis
    redis=$(of_file REDIS_URL)
    (
        umask 077
        mkdir -p .secrets
        chmod 700 .secrets
        secret redis-url "${redis:-redis://:$(setting REDIS_PASSWORD)@redis:6379/0}"
        secret redis-password "$(setting REDIS_PASSWORD)"
        secret flower-password "$(setting SCORING_FLOWER_PASSWORD)"
        secret serve-tokens "$(setting SCORING_SERVE_TOKENS)"
        secret grafana-password "$(setting SCORING_FLOWER_PASSWORD)"
        secret notebook-token "$(setting SCORING_NOTEBOOK_TOKEN)"
        secret store-key "$(setting SCORING_STORE_KEY)"
        secret webhook-url "$(setting WEBHOOK_URL)"
        secret aws-access-key-id "$(setting AWS_ACCESS_KEY_ID)"
        secret aws-secret-access-key "$(setting AWS_SECRET_ACCESS_KEY)"
        secret aws-credentials "$(aws_credentials)"
    )
    # the server in the container runs as another user, who is in your group there
    chmod 640 .secrets/redis-password
    [ "$(id -u)" != 0 ] || chown -R "$(setting SCORING_UID):$(setting SCORING_GID)" .secrets
}

aws_credentials() {
    [ -n "$(setting AWS_ACCESS_KEY_ID)" ] || return 0
    echo "[default]"
    echo "aws_access_key_id=$(setting AWS_ACCESS_KEY_ID)"
    echo "aws_secret_access_key=$(setting AWS_SECRET_ACCESS_KEY)"
    [ -z "$(setting AWS_SESSION_TOKEN)" ] || echo "aws_session_token=$(setting AWS_SESSION_TOKEN)"
}

# check_port SERVICE PORT VARIABLE PORT_IN_CONTAINER: the port must be free, or used by this service of ours
check_port() {
    local ours
    ours=$("${compose[@]}" --profile notebook port "$1" "${4:-$2}" 2>/dev/null) || ours=''
    [[ $ours != *:"$2" ]] || return 0
    ! (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null ||
        refuse "Port $2 is busy: stop what uses it, or set $3 to another port in .env, and start again."
}

# check_ports: checks the ports of the stack and of its running optional services, before anything is stopped or built
check_ports() {
    check_port flower "$(port SCORING_FLOWER_PORT 5555)" SCORING_FLOWER_PORT 5555
    ! runs notebook || check_port notebook "$(port SCORING_NOTEBOOK_PORT 9999)" SCORING_NOTEBOOK_PORT 9999
}

docker_environment() {
    check_docker
    find_compose
    make_settings
    make_bucket
    make_secrets
}

IMAGE=keyword-scoring NOTEBOOK_IMAGE=keyword-scoring-notebook

image_tag() {
    local tag
    tag=$(setting SCORING_IMAGE_TAG)
    echo "${tag:-latest}"
}

# image_id NAME: prints nothing if there is no such image
image_id() {
    docker image inspect --format '{{.Id}}' "$1" 2>/dev/null || true
}

# build_candidate SERVICE OPTIONS...: builds the image of a service under the tag `candidate`, which nothing runs on; the build's output
# is shown only if it fails
build_candidate() {
    local service=$1 log=.scoring/build-$1.log options=()
    shift
    (umask 077 && mkdir -p .scoring && : >>"$log")
    # the plugin leaves no containers after a build
    [ "${compose[*]}" != docker-compose ] || options=(--force-rm)
    echo "Building the image of $service (some minutes the first time; its log: $log) ..."
    if ! SCORING_IMAGE_TAG=candidate "${compose[@]}" --profile notebook build ${options[@]+"${options[@]}"} "$@" "$service" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        refuse "The image could not be built: see above, and all of it in $log. What runs was left as it was."
    fi
}

# name_candidate IMAGE SERVICE: gives the candidate the tag that the stack runs on; the image before it stays, as `previous`
name_candidate() {
    local image=$1 container before new
    new=$(image_id "$image:candidate")
    container=$(containers "$2" | sed -n 1p)
    [ -z "$container" ] || before=$(docker inspect --format '{{.Image}}' "$container" 2>/dev/null)
    before=${before:-$(image_id "$image:$(image_tag)")}
    [ -z "$before" ] || [ "$before" = "$new" ] || docker tag "$before" "$image:previous"
    docker tag "$image:candidate" "$image:$(image_tag)"
    docker rmi --no-prune "$image:candidate" >/dev/null
}

# swap_with_previous IMAGE: the previous image runs again, and the current one becomes `previous`
swap_with_previous() {
    local image=$1 current
    current=$(image_id "$image:$(image_tag)")
    docker tag "$image:previous" "$image:$(image_tag)"
    [ -z "$current" ] || docker tag "$current" "$image:previous"
}

# drop_old_images: removes untagged images of our builds, also of failed ones
drop_old_images() {
    docker image prune --force --filter label=keyword-scoring >/dev/null 2>&1 || true
}

# runs SERVICE: true if one of its containers runs
runs() {
    [ -n "$(running "$1")" ]
}

# running SERVICE: prints the ids of its running containers
running() {
    local id
    for id in $(containers "$1"); do
        [ "$(docker inspect --format '{{.State.Running}}' "$id" 2>/dev/null)" != true ] || echo "$id"
    done
}

# how_many_workers: prints the setting, else the current number, else one
how_many_workers() {
    local number
    number=$(setting SCORING_WORKERS)
    [ -n "$number" ] || number=$(containers worker | grep -c .) || number=1
    echo "$number"
}

# containers SERVICE...: prints the ids of their containers, except those of `docker-compose run`
containers() {
    local id
    for id in $("${compose[@]}" --profile notebook --profile metrics ps -q "$@" 2>/dev/null); do
        [ "$(docker inspect --format '{{index .Config.Labels "com.docker.compose.oneoff"}}' "$id" 2>/dev/null)" = True ] || echo "$id"
    done
}

# take_away CONTAINER...: stops and removes them; each finishes its running tasks first
take_away() {
    docker stop -t 50 "$@" >/dev/null
    docker rm --volumes "$@" >/dev/null
}

# start SERVICE...: runs services on the current image, in place of the running containers
start() {
    local old
    # docker-compose 1.29 cannot replace a container of a newer Docker (KeyError: ContainerConfig), and its `rm` also removes the containers
    # of `run`
    old=$(containers "$@")
    # shellcheck disable=SC2086 # ids, one per word
    [ -z "$old" ] || take_away $old
    "${compose[@]}" --profile notebook --profile metrics up -d --no-deps "$@"
}

# start_redis: starts it as docker-compose.yml describes; its waiting messages are kept
start_redis() {
    "${compose[@]}" up -d redis >/dev/null 2>&1 || start redis
    wait_for redis
}

# answers SERVICE CONTAINER: true if the process in this container is healthy
answers() {
    case $1 in
    redis | notebook | metrics) [ "$(docker inspect --format '{{.State.Health.Status}}' "$2" 2>/dev/null)" = healthy ] ;;
    *) docker exec "$2" scoring health "$1" >/dev/null 2>&1 </dev/null ;;
    esac
}

# seconds for a process to become healthy, also on a slow machine
WAIT_SECONDS=180

# works_in_time SERVICE CONTAINER
works_in_time() {
    local limit=$((SECONDS + WAIT_SECONDS))
    until answers "$1" "$2"; do
        [ "$SECONDS" -lt "$limit" ] || return 1
        sleep 1
    done
}

# wait_for SERVICE: waits until each of its containers is healthy
wait_for() {
    local id
    for id in $(containers "$1"); do
        works_in_time "$1" "$id" ||
            refuse "The container of $1 does not work: see why with: ${compose[*]} logs $1$(way_back)"
    done
}

# way_back: prints how to run the previous image, if there is one
way_back() {
    [ -z "$(image_id "$IMAGE:previous")" ] || echo "; the image before this one runs again with: ./build_pipelines.sh --back"
}

# replace SERVICE: runs its containers on the current image. One more container of the new image is healthy before the old ones are stopped,
# so that the service is never interrupted; it is removed when the new ones are healthy.
replace() {
    local service=$1 guest=''
    if runs "$service"; then
        guest=$("${compose[@]}" run -d --no-deps "$service" | tail -n 1)
        guest=$(docker inspect --format '{{.Id}}' "$guest") || refuse "A $service of the new image did not start. The old one goes on$(way_back)"
        wait_for_guest "$service" "$guest"
    fi
    start "$service"
    wait_for "$service"
    [ -z "$guest" ] || take_away "$guest"
}

wait_for_guest() {
    ! works_in_time "$1" "$2" || return 0
    docker logs --tail 20 "$2" >&2 || true
    take_away "$2"
    refuse "The new image of $1 does not work: see above. The old one goes on$(way_back)"
}

# Starts the stack, and waits until each process is healthy. Running containers are replaced.
start_stack() {
    local service
    echo "Starting Redis, workers, beat and Flower ..."
    start_redis
    # counted before the old ones are removed
    SCORING_WORKERS=$(how_many_workers) replace worker
    replace control
    start beat flower
    for service in notebook metrics; do
        ! runs "$service" || start "$service"
    done
    for service in beat flower; do
        wait_for "$service"
    done
}

# in_container ARGUMENTS...: runs the scoring command in a running container
in_container() {
    docker exec "$(running control | sed -n 1p)" scoring "$@" </dev/null
}

# Prints the newest folder YYYY/MM/DD with a table to score, in a bucket that is a folder of this machine; fails if there is none.
newest_input() {
    local place
    cd "$(bucket_folder)" || return 1
    for place in $(ls -dr data/predict/input/[0-9][0-9][0-9][0-9]/[0-9][0-9]/[0-9][0-9] 2>/dev/null); do
        [ -z "$(ls "$place")" ] || { echo "$place" && return; }
    done
    return 1
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    cd "$(dirname "$0")"
    docker_environment
    keep_environment
    echo "Ready: .env, .secrets/ and $(bucket_folder). Start everything with: ${compose[*]} up -d"
fi
