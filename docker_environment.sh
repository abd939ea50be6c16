# Sourced by cold_start.sh and build_pipelines.sh: `docker_environment` checks Docker and compose, makes .env and the bucket's folder, and
# sets `compose` to the command to use. What is missing is said in one sentence.

# docker-compose or its plugin, as an array; set by find_compose
compose=()

refuse() {
    echo "$*" >&2
    exit 1
}

# is_at_least 19.03 28.2.2
is_at_least() {
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
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
    answer=${answer##*$'\n'} # a warning may stand before it
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

# setting NAME: its value as compose sees it, from the environment or from .env; empty when it has none
setting() {
    echo "${!1:-$(sed -n "s/^$1=//p" .env | tail -n 1)}"
}

# port NAME DEFAULT
port() {
    local number
    number=$(setting "$1")
    echo "${number:-$2}"
}

# settle NAME VALUE: write it into .env unless it has a value there or in the environment
settle() {
    [ -z "$(setting "$1")" ] || return 0
    (umask 077 && sed "/^$1=/d" .env >.env.new && echo "$1=$2" >>.env.new)
    mv .env.new .env
}

make_settings() {
    local name uid gid
    # whoever uses sudo wants his files to be his; root's own processes take the user that the image has
    uid=${SUDO_UID:-$(id -u)} gid=${SUDO_GID:-$(id -g)}
    [ "$uid" != 0 ] || uid=1000 gid=1000
    if [ ! -f .env ]; then
        echo "Making .env, with new passwords ..."
        (umask 077 && grep -v '^SCORING_[UG]ID=' .env.example >.env)
    fi
    # an editor may have left the last line open, and what is appended would become part of it
    [ -z "$(tail -c 1 .env)" ] || echo >>.env
    settle SCORING_UID "$uid"
    settle SCORING_GID "$gid"
    for name in REDIS_PASSWORD SCORING_FLOWER_PASSWORD SCORING_NOTEBOOK_TOKEN; do
        settle "$name" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"
    done
    [ "$(id -u)" != 0 ] || chown "$uid:$gid" .env
}

make_bucket() {
    local bucket
    bucket=$(setting SCORING_BUCKET)
    bucket=${bucket:-./bucket}
    # made here: Docker would make it for root alone
    mkdir -p "$bucket"
    [ "$(id -u)" != 0 ] || chown -R "$(setting SCORING_UID):$(setting SCORING_GID)" "$bucket"
}

# check_port SERVICE PORT VARIABLE: the port is free, or this very service of ours has it
check_port() {
    [ -z "$("${compose[@]}" --profile notebook ps -q "$1" 2>/dev/null)" ] || return 0
    ! (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null ||
        refuse "Port $2 is busy: stop what uses it, or set $3 to another port in .env, and start again."
}

docker_environment() {
    check_docker
    find_compose
    make_settings
    make_bucket
}

# build_image SERVICE OPTIONS...: builds the image of a service; what the build says is shown only when it fails
build_image() {
    local service=$1 log=.scoring/build-$1.log
    shift
    mkdir -p .scoring
    echo "Building the image of $service (some minutes the first time; its log: $log) ..."
    if ! "${compose[@]}" --profile notebook build "$@" "$service" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        refuse "The image could not be built: see above, and all of it in $log."
    fi
}

# how_many_workers: the setting, else as many as there are, else one
how_many_workers() {
    local number
    number=$(setting SCORING_WORKERS)
    [ -n "$number" ] || number=$("${compose[@]}" ps -q worker 2>/dev/null | grep -c .) || number=1
    echo "$number"
}

# start SERVICE...: runs services, and what they need, on the image that is there now
start() {
    if [ "${compose[*]}" = docker-compose ]; then
        # docker-compose 1.29 cannot put a container of a newer Docker in the place of another (KeyError: ContainerConfig)
        "${compose[@]}" --profile notebook rm --stop --force "$@" >/dev/null 2>&1
    fi
    "${compose[@]}" --profile notebook up -d "$@"
}

# Starts the stack, and waits until each process does its work.
start_stack() {
    local service tries
    echo "Starting Redis, workers, beat and Flower ..."
    # counted before the old ones go
    SCORING_WORKERS=$(how_many_workers) start worker control beat flower
    for service in worker control beat flower; do
        for ((tries = 0; tries < 30; tries++)); do
            "${compose[@]}" exec -T "$service" scoring health "$service" >/dev/null 2>&1 </dev/null && continue 2
            sleep 1
        done
        refuse "The container of $service does not work: see why with: ${compose[*]} logs $service"
    done
}

# in_container ARGUMENTS...: the scoring command, in a container that is there
in_container() {
    "${compose[@]}" exec -T control scoring "$@" </dev/null
}

# The newest folder YYYY/MM/DD with a table to score, in a bucket that is a folder of this machine; fails when there is none.
newest_input() {
    local bucket place
    bucket=$(setting SCORING_BUCKET)
    cd "${bucket:-./bucket}" || return 1
    for place in $(ls -dr data/predict/input/[0-9][0-9][0-9][0-9]/[0-9][0-9]/[0-9][0-9] 2>/dev/null); do
        [ -z "$(ls "$place")" ] || { echo "$place" && return; }
    done
    return 1
}
