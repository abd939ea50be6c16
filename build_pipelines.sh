#!/usr/bin/env bash
# Builds the image with all definitions in model_store/ and the OS packages that they need, checks in it the definition of MODEL_VER
# (in .env), deploys it, and triggers the pipelines of the definition: train, then score. The running image stays in service until the new
# image has passed; the previous image is kept.
#
#   ./build_pipelines.sh                     build, check, put into service, train, score
#   ./build_pipelines.sh --service train     without the scoring; also: score, both (the default)
#   ./build_pipelines.sh --build-only        build, check and put into service
#   ./build_pipelines.sh --force             rebuild every layer, and repeat requests that were done before
#   ./build_pipelines.sh --table PATH        score this table of the bucket, not the newest folder in data/predict/input
#   ./build_pipelines.sh --back              run the previous image again
#
# For a new definition: create model_store/<name>/, set MODEL_VER=<name> in .env, and run this.
set -euo pipefail
cd "$(dirname "$0")"

. ./docker_environment.sh

usage() {
    sed -n '2,13s/^# \{0,1\}//p' "$0"
}

misuse() {
    echo "$1; see how with: $0 -h" >&2
    exit 2
}

service=both table='' build_only=no back=no
# the long form below is for the bash of macOS, which treats an empty array as unset
build_options=() again=()
while [ $# -gt 0 ]; do
    case $1 in
        --service)
            service=${2:-}
            case $service in train | score | both) ;; *) misuse "--service is train, score or both" ;; esac
            shift
            ;;
        --table)
            table=${2:-}
            [ -n "$table" ] || misuse "--table names no table"
            shift
            ;;
        --build-only) build_only=yes ;;
        --back) back=yes ;;
        --force) build_options=(--no-cache) again=(--again) ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
    shift
done

go_back() {
    [ -n "$(image_id "$IMAGE:previous")" ] || refuse "There is no image before this one: docker image ls $IMAGE shows those that there are."
    swap_with_previous "$IMAGE"
    [ -z "$(image_id "$NOTEBOOK_IMAGE:previous")" ] || swap_with_previous "$NOTEBOOK_IMAGE"
    start_stack
    echo "The image before the last one runs again. To change your mind, type the same once more."
}

docker_environment
check_ports
if [ "$back" = yes ]; then
    go_back
    exit 0
fi
definition=$(setting MODEL_VER)
definition=${definition:-v1}
[ -f "model_store/$definition/model.py" ] ||
    refuse "There is no definition $definition: make model_store/$definition/model.py, or set MODEL_VER in .env to one that is there: $(cd model_store && echo */model.py | sed 's#/model.py##g')."
if [ "$build_only" = no ] && [ "$service" != train ] && [ -z "$table" ]; then
    [ -z "$(setting BUCKET_URL)" ] || refuse "The bucket is $(setting BUCKET_URL), which is not a folder on this machine: name a table in it with --table."
    table=$(newest_input) || refuse "There is no table in data/predict/input of the bucket: put one there, or name one with --table."
fi

build_candidate worker ${build_options[@]+"${build_options[@]}"}
echo "Checking $definition in the new image ..."
docker run --rm --init --network none --read-only --tmpfs /tmp --cap-drop ALL --pids-limit 4096 "$IMAGE:candidate" models check "$definition" ||
    refuse "The new image is not put into service: see above. What runs was left as it was."
! runs notebook || build_candidate notebook ${build_options[@]+"${build_options[@]}"}
keep_environment
name_candidate "$IMAGE" worker
! runs notebook || name_candidate "$NOTEBOOK_IMAGE" notebook
start_stack
drop_old_images
[ -z "$(way_back)" ] || echo "The image before this one is kept. It runs again with: ./build_pipelines.sh --back"
[ "$build_only" = no ] || exit 0

if [ "$service" != score ]; then
    echo "Training $definition ..."
    in_container train "$definition" ${again[@]+"${again[@]}"}
fi
if [ "$service" != train ]; then
    echo "Scoring $table with $definition ..."
    in_container score "$table" --model "$definition" ${again[@]+"${again[@]}"}
fi
