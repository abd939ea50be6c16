#!/usr/bin/env bash
# Builds the image with all definitions in model_store/ and the OS packages that they need, puts it into service, checks the definition that
# MODEL_VER names (in .env), and triggers its pipelines: train, then score.
#
#   ./build_pipelines.sh                     build, train, score
#   ./build_pipelines.sh --service train     build and train only; also: score, both (the default)
#   ./build_pipelines.sh --build-only        build, put into service and check
#   ./build_pipelines.sh --force             build every layer anew, and run requests once more that were done before
#   ./build_pipelines.sh --table PATH        score this table of the bucket, not the newest folder in data/predict/input
#
# For a new definition: make model_store/<name>/, set MODEL_VER=<name> in .env, and run this.
set -euo pipefail
cd "$(dirname "$0")"

. ./docker_environment.sh

usage() {
    sed -n '2,11s/^# \{0,1\}//p' "$0"
}

misuse() {
    echo "$1; see how with: $0 -h" >&2
    exit 2
}

service=both table='' build_only=no
# the long form below is for the bash of macOS, to which an empty array is an unset one
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

docker_environment
definition=$(setting MODEL_VER)
definition=${definition:-v1}
[ -f "model_store/$definition/model.py" ] ||
    refuse "There is no definition $definition: make model_store/$definition/model.py, or set MODEL_VER in .env to one that is there: $(cd model_store && echo */model.py | sed 's#/model.py##g')."
if [ "$build_only" = no ] && [ "$service" != train ] && [ -z "$table" ]; then
    [ -z "$(setting BUCKET_URL)" ] || refuse "The bucket is $(setting BUCKET_URL), which is no folder of this machine: name a table in it with --table."
    table=$(newest_input) || refuse "There is no table in data/predict/input of the bucket: put one there, or name one with --table."
fi

build_image worker ${build_options[@]+"${build_options[@]}"}
start_stack
echo "Checking $definition ..."
in_container models check "$definition"
[ "$build_only" = no ] || exit 0

if [ "$service" != score ]; then
    echo "Training $definition ..."
    in_container train "$definition" ${again[@]+"${again[@]}"}
fi
if [ "$service" != train ]; then
    echo "Scoring $table with $definition ..."
    in_container score "$table" --model "$definition" ${again[@]+"${again[@]}"}
fi
