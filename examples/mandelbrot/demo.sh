#!/usr/bin/env bash
# The main job from nothing: an image, a sweep of 24 and more tasks, the fetched pictures and a contact sheet of them.
# Usage: demo.sh [DIR]     (DIR: an empty or a new directory for the pictures; ./demo-out by default, which is made anew)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$(realpath -m "${1:-$root/demo-out}")
if [ $# -gt 0 ] && [ -n "$(ls -A "$out" 2>/dev/null)" ]; then
    echo "demo: $out is not empty; name a new directory" >&2
    exit 2
fi
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

[ $# -gt 0 ] || rm -rf "$out"
cd "$here"
job=$(kubeq sub -n demo -i "$image" --params params.csv python3 '^mandelbrot.py' '{x_scale}' '{y_scale}' '{zoom}')
kubeq fetch "$job" "$out"
python3 contact_sheet.py "$out"
echo "demo: open $out/index.html, or look at $out/contact-sheet.png"
