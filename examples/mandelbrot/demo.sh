#!/usr/bin/env bash
# The main job from nothing: an image, a sweep of 24 and more tasks, the fetched pictures and a contact sheet of them.
# Usage: demo.sh [DIR]     (DIR: where the pictures go, ./demo-out by default)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$(realpath -m "${1:-$root/demo-out}")
export PATH="$root/.venv/bin:$PATH"

image=none
if ! "$root/images/engine.sh"; then
    echo "demo: no Docker engine can be had here, so the tasks run as plain processes of this machine"
elif made=$(python3 "$root/images/base/build.py"); then
    image=$made
    echo "demo: every task runs in a container of $image"
else
    echo "demo: no image can be had or made here, so the tasks run as plain processes of this machine"
fi

rm -rf "$out"
cd "$here"
kubeq sub -n demo -i "$image" --params params.csv python3 '^mandelbrot.py' '{x_scale}' '{y_scale}' '{zoom}'
kubeq fetch LAST "$out"
python3 contact_sheet.py "$out"
echo "demo: open $out/index.html, or look at $out/contact-sheet.png"
