"""The shell that runs on a host: the pieces that scripts are made of, and what keeps an agent there.

Each is for any POSIX shell and the tools that every Linux has. What they are used for is in `ssh_host`.
"""

from __future__ import annotations

PLACES = """\
state=${XDG_STATE_HOME:-$HOME/.local/state}/kubeq/hosts/$(uname -n)  # machines may share a home directory
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kubeq; umask 077
"""
SURVEY = (
    PLACES
    + """\
echo "machine $(uname -s) $(uname -m)"
for python in python3 python3.15 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3 /usr/local/bin/python3; do
    found=$("$python" -c 'import sys, ssl, zipfile; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    echo "python $found"
done
bounded() { if command -v timeout >/dev/null 2>&1; then timeout 10 "$@"; else "$@"; fi; }
if command -v docker >/dev/null 2>&1; then
    version=$(bounded docker version --format '{{.Server.Version}}' 2>&1) && echo "docker $version" ||
        echo "nodocker $(echo "$version" | tail -n 1)"
else
    echo "nodocker it is not installed"
    [ -n "${DOCKER_HOST:-}" ] || [ -S /var/run/docker.sock ] || echo noengine
fi
for place in "$state/nodes" "$cache/agents"; do
    said=$(mkdir -p "$place" 2>&1 && : 2>&1 > "$place/.probe.$$" && rm -f "$place/.probe.$$") ||
        echo "unwritable $place: ${said:-it cannot be written}"
done
echo "state $state"
echo "cache $cache"
echo "free $(df -Pk "$state" 2>/dev/null | awk 'NR == 2 { print $4 }')"
echo "cpus $(nproc 2>/dev/null || echo 1)"
"""
)
ALIVE = """\
alive() {  # whether the process that is on record in $1 lives: the same pid, begun at the same time since the same boot
    [ -f "$1" ] && read -r pid began boot < "$1" || return 1
    [ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] || return 1
    [ "$began" = "$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f20)" ]
}
record() {  # the process $1 as `alive` reads it
    echo "$1 $(sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f20) $(cat /proc/sys/kernel/random/boot_id)"
}
"""
RESIDENTS = """\
residents() {  # of each node of the pool $1: alive, dead or spooled, its name, its pid or last words; then the key $2
    cd "$state/nodes" 2>/dev/null && for folder in "$1"-*; do
        [ -f "$folder/run.sh" ] || continue
        if alive "$folder/process"; then echo "alive $folder $pid"; continue; fi
        said=$(tail -c 4096 "$folder/agent.out" 2>/dev/null | grep . | tail -n 1)
        if [ -f "$folder/process" ] && read -r _ _ boot < "$folder/process" &&
            [ "$boot" != "$(cat /proc/sys/kernel/random/boot_id)" ]; then said="its host was started anew"; fi
        state_=dead; ls "$folder"/spool/*.json >/dev/null 2>&1 && state_=spooled
        echo "$state_ $folder $said"
    done
    grep -qsF "$2" "$HOME/.ssh/authorized_keys" && echo key
    :
}
"""
KEYS = (
    ALIVE
    + """\
change_keys() {  # in authorized_keys the line $2, or none, for the lines with the mark $1; all at once or not at all
    keys=$HOME/.ssh/authorized_keys
    [ -e "$keys" ] || { [ -n "$2" ] || return 0; : >> "$keys" || return 1; }
    keys=$(readlink -f "$keys"); new=$keys.kubeq
    gone=$(grep -cF "$1" "$keys"); [ "$gone" -gt 0 ] || [ -n "$2" ] || return 0
    kept=$(($(grep -c '' "$keys") - gone))
    if cp -p "$keys" "$new" && { grep -vF "$1" "$keys" > "$new"; [ "$(grep -c '' "$new")" = "$kept" ]; } &&
        { [ -z "$2" ] || { printf '%s\\n' "$2" >> "$new" && [ "$(tail -n 1 "$new")" = "$2" ]; }; }
    then sync "$new" 2>/dev/null; mv -f "$new" "$keys"
    else rm -f "$new"; return 1
    fi
}
without_unused_key() {  # remove the key marked $1, unless a node of pool $3 lives here (state in $2) or may elsewhere
    for node in "$2"/nodes/"$3"-*/process; do if alive "$node"; then return 0; fi; done
    for node in "$2"/../*/nodes/"$3"-*/process; do
        case $node in "$2/../$(uname -n)/"*) ;; *) [ ! -f "$node" ] || return 0 ;; esac
    done
    change_keys "$1" ""
}
locked() {  # one at a time; a lock that is a minute old belongs to nobody any more
    mkdir -p -m 700 "$HOME/.ssh" && [ -w "$HOME/.ssh" ] || { echo "~/.ssh cannot be written" >&2; return 1; }
    tries=0
    until mkdir "$HOME/.ssh/.kubeq-lock" 2>/dev/null; do
        tries=$((tries + 1)); [ "$tries" -gt 60 ] && rmdir "$HOME/.ssh/.kubeq-lock" 2>/dev/null; sleep 1
    done
    "$@"; done_=$?; rmdir "$HOME/.ssh/.kubeq-lock"; return $done_
}
"""
)
RUN = f"""\
#!/bin/sh
# Keeps the agent of one kubeq node: starts it, hands on the wish to leave, and clears up behind it.
# Usage: run.sh KEY-MARK COMMAND...
cd "$(dirname "$0")" || exit 1
umask 077
mark=$1; shift
{KEYS}
trap '' HUP
trap '[ -n "$agent" ] && kill -TERM "$agent" 2>/dev/null' TERM INT
set -a; . ./agent.env; set +a
"$@" &
agent=$!
wait "$agent"; code=$?
while kill -0 "$agent" 2>/dev/null; do wait "$agent"; code=$?; done
rm -f process token
locked without_unused_key "$mark" ../.. "$KUBEQ_AGENT_POOL"
exit "$code"
"""
START = f"""\
{KEYS}
umask 077
begin() {{  # the agent in this folder, allowed to be reached with its pool's key; or the one that lives here already
    if alive process; then echo "$pid"; return 0; fi
    change_keys "$mark" "$line" || {{ echo "~/.ssh/authorized_keys cannot be written" >&2; return 1; }}
    setsid=$(command -v setsid)
    # The shell that becomes the keeper waits until its record is written, so that no agent runs that is not on record.
    rm -f gate; mkfifo gate || return 1
    $setsid sh -c 'read -r go < gate && exec sh ./run.sh "$@"' kubeq-node "$mark" "$@" </dev/null >>agent.out 2>&1 &
    keeper=$!
    record "$keeper" > process.new && mv -f process.new process || return 1
    echo go > gate; rm -f gate
    echo "$keeper"
}}
"""
TIDY = """\
tidy() {  # remove folders of nodes in $1 that have been over for more than a day and left nothing to deliver
    for folder in "$1"/*; do
        [ -f "$folder/run.sh" ] && ! alive "$folder/process" || continue
        ls "$folder"/spool/*.json >/dev/null 2>&1 && continue
        [ -z "$(find "$folder" -maxdepth 0 -mtime +0)" ] || rm -rf "$folder"
    done
    return 0
}
"""
