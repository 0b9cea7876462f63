#!/bin/sh
# Makes sure that a Docker engine answers on this machine, and says what it did.
#
#   sh images/engine.sh
#
# Exit 0: an engine answers. Exit 3: none can be had here, with one sentence that says why.
#
# An engine that answers already is left alone. Otherwise, as root, the engine is installed from Debian's packages if
# it is missing, and started in a process group of its own, so that it outlives this shell. Running it again, or twice
# at once, is harmless. Its log is ${XDG_CACHE_HOME:-$HOME/.cache}/kubeq/engine.log.

set -eu

cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/kubeq
log=$cache/engine.log
socket=unix:///var/run/docker.sock
wait_s=60

say() { printf 'engine: %s\n' "$*"; }

give_up() {
    printf 'engine: no Docker engine: %s\n' "$*" >&2
    exit 3
}

bounded() { if command -v timeout >/dev/null 2>&1; then timeout 10 "$@"; else "$@"; fi; }

# Whether an engine answers; its version is then in $answer. (`docker info` may succeed without one.)
answering() {
    command -v docker >/dev/null 2>&1 || return 1
    answer=$(bounded docker version --format '{{.Server.Version}}' 2>/dev/null) && [ -n "$answer" ]
}

is_root() { [ "$(id -u)" = 0 ]; }

may_install() {
    is_root || give_up 'dockerd is not installed, and only root can install it; run this script as root, or install Docker'
    command -v apt-get >/dev/null 2>&1 ||
        give_up 'dockerd is not installed, and there is no apt-get to install it with; install Docker by hand'
}

apt_install() { DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }

install_engine() {
    may_install
    say "installing docker.io and iptables (log: $log)"
    apt_install docker.io iptables >>"$log" 2>&1 ||
        { apt-get update >>"$log" 2>&1 && apt_install docker.io iptables >>"$log" 2>&1; } ||
        give_up "apt-get could not install docker.io; see $log"
}

# A pid file that survived its process (a machine stopped hard, a copied disk) keeps a new engine from starting when
# another program has been given that number since.
forget_stale_pid() {
    [ -f "$1" ] || return 0
    pid=$(cat "$1" 2>/dev/null || true)
    name=$(cat "/proc/$pid/comm" 2>/dev/null || true)
    [ "$name" = "$2" ] || rm -f "$1"
}

start_with_systemd() {
    [ -d /run/systemd/system ] && systemctl cat docker.service >/dev/null 2>&1 || return 1
    systemctl start docker >>"$log" 2>&1 || return 1
    say 'asked systemd to start docker.service'
}

start_engine() {
    forget_stale_pid /var/run/docker.pid dockerd
    forget_stale_pid /var/run/docker/containerd/containerd.pid containerd
    # 9>&-: the engine must not inherit the lock, or nobody could take it as long as it lives.
    setsid dockerd >>"$log" 2>&1 </dev/null 9>&- &
    engine=$!
    say "started dockerd (pid $engine, log $log)"
}

wait_for_engine() {
    deadline=$(($(date +%s) + wait_s))
    until answering; do
        if [ -n "${engine-}" ] && ! kill -0 "$engine" 2>/dev/null; then
            give_up "dockerd ended at once: $(tail -n 1 "$log")"
        fi
        [ "$(date +%s)" -lt "$deadline" ] || give_up "dockerd did not answer within $wait_s s; see $log"
        sleep 0.2
    done
}

case ${1-} in
    '') ;;
    *) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac

if answering; then
    say "Docker engine $answer answers already"
    exit 0
fi

case ${DOCKER_HOST-} in
    '' | "$socket") ;;
    *) give_up "DOCKER_HOST is $DOCKER_HOST, and nothing answers there" ;;
esac
[ "$(uname -s)" = Linux ] || give_up "this is $(uname -s), where it cannot be started from a script; start Docker Desktop"
command -v dockerd >/dev/null 2>&1 || may_install
is_root || give_up 'none answers this user, and only root can start one; run this script as root, or join the group docker'

mkdir -p "$cache"
exec 9>"$cache/engine.lock"
flock -w 300 9 || give_up 'another run of this script did not end within 300 s'

began=$(date +%s)
if ! answering; then
    { command -v dockerd && command -v docker; } >/dev/null 2>&1 || install_engine
    answering || start_with_systemd || start_engine
    wait_for_engine
fi
say "Docker engine $answer answers after $(($(date +%s) - began)) s"
