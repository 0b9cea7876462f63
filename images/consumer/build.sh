#!/bin/sh
# Builds the agent's image from this checkout, and prints its name.
#
#   sh images/consumer/build.sh [BASE]
#
# BASE is an image with Python; without it, images/base/build.py chooses one. TAG names the result (kubeq-consumer).
# What the agent requires is downloaded with pip as wheels once, and kept in ${XDG_CACHE_HOME:-$HOME/.cache}/kubeq.

set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3}
wheels=${XDG_CACHE_HOME:-$HOME/.cache}/kubeq/wheels-1
requirement='docker>=7.0'

base=${1:-$("$python" "$root/images/base/build.py")}

if ! [ -d "$wheels" ]; then
    mkdir -p "${wheels%/*}"
    partial=$(mktemp -d "$wheels.XXXXXX")
    trap 'rm -rf "$partial"' EXIT
    # Pure wheels only: the Python in the image need not be the one that runs pip.
    "$python" -m pip download --quiet --disable-pip-version-check --dest "$partial" --only-binary=:all: \
        --platform any --implementation py --abi none --python-version 3.11 "$requirement" >&2
    mv -T "$partial" "$wheels" 2>/dev/null || [ -d "$wheels" ]
    trap - EXIT
fi

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$here/Dockerfile" "$here/kubeq-consumer" "$context"
mkdir "$context/packages"
cp -R "$root/kubeq" "$root/consumer/kubeq_consumer" "$context/packages"
find "$context/packages" -name __pycache__ -prune -exec rm -r {} +
cp -R "$wheels" "$context/wheels"

# The classic builder where Docker has no other; it is on its way out elsewhere.
docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0
docker build --quiet --tag "${TAG:-kubeq-consumer}" --build-arg BASE="$base" "$context" >&2
echo "${TAG:-kubeq-consumer}"
