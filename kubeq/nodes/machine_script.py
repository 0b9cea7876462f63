"""The shell of a machine's boot text, a constant a part, in the order in which they run. `machine_boot` joins them.

`@name@` is replaced by what `machine_boot` has for it, once. Everything is POSIX sh with the tools that every image of
a cloud has. Nothing waits without a bound, and whatever fails ends in the line that switches the machine off.
"""

from __future__ import annotations

CANNOT = "kubeq: this machine cannot become a node: "
HAS_ENDED = " has ended with "
"""What stands on the console of a machine that fails, for whoever waits for it."""
HEAD = """\
#!/bin/sh
# Makes this machine node @node@ of pool @pool@; by kubeq @release@.
# No credential is in here: the agent is whoever the machine is.
set -u
umask 077
export PATH="$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME="${HOME:-/root}"
run=@run@ kept=@kept@
me=$(cat /sys/class/dmi/id/product_uuid 2>/dev/null || echo this)
[ "$#" -lt 2 ] || [ "$2" = "$me" ] || exit 0  # an image was made of another node's disk
mkdir -p "$run" "$kept"

"""
ENDS = """\
# 1. The end of this machine, before anything that may fail or hang.
later() {  # later NAME SECONDS LINE: whatever becomes of this script
    if [ -d /run/systemd/system ] && systemd-run --quiet --unit="kubeq-$1" --on-active="$2" \\
        --timer-property=AccuracySec=1s /bin/sh -c "$3" >/dev/null 2>&1; then return; fi
    (trap '' HUP; exec sh -c "sleep $2; $3") </dev/null >/dev/null 2>&1 &
}
off='@atend@; sleep 120; poweroff -f'
if mkdir "$run/armed" 2>/dev/null; then
    now=$(date +%s) ends=$kept/ends-@node@-$me
    [ -s "$ends" ] || echo $((now + @lifetime@)) >"$ends"
    at=$(cat "$ends") left=@lifetime@
    [ -z "$at" ] || left=$((at - now))
    [ "$left" -le @lifetime@ ] || left=@lifetime@
    [ "$left" -gt 0 ] || left=1
    later lifetime "$left" "$off"
    later unregistered @register@ "[ -e $run/registered ] || { $off; }"
fi

"""
SERVICE = """\
# 2. A service goes on from here: it is stopped while there still is a network, and comes again after a reboot.
if [ "${1-}" != node ] && [ -d /run/systemd/system ] && [ -f "$0" ] && cp "$0" "$kept/boot" &&
    cat >/etc/systemd/system/kubeq-node.service <<END_OF_UNIT && systemctl daemon-reload &&
[Unit]
Description=Node @node@ of kubeq
Wants=network-online.target
After=network-online.target docker.service
[Service]
ExecStart=/bin/sh $kept/boot node $me
ExecStopPost=/bin/sh -c '@atend@'
KillMode=mixed
TimeoutStopSec=90
TasksMax=infinity
LimitNOFILE=65536
Delegate=yes
StandardOutput=journal+console
StandardError=journal+console
[Install]
WantedBy=multi-user.target
END_OF_UNIT
    { systemctl --quiet enable kubeq-node; systemctl start --no-block kubeq-node; }; then
    exit 0
fi
mkdir "$run/running" 2>/dev/null || exit 0  # the other copy does it

"""
LOG = """\
# 3. From here on whatever happens is told, on the console and to the agent, and switches the machine off.
exec 3>&1 4>&2
at_end() {
    code=$?
    trap - EXIT
    trap '' PIPE  # whoever wrote down what is said may be gone
    echo "kubeq: node @node@@hasended@$code, and this machine switches itself off"
    exec >&3 2>&4
    for wait in 1 2 3 4 5; do  # what was said before is to be seen
        [ ! -e "$run/pipe" ] || [ -e "$run/told" ] || sleep 1
    done
    later off 120 'poweroff -f'
    @atend@
}
trap at_end EXIT
trap 'exit 143' TERM INT
rm -f "$run/pipe" "$run/told"
if mkfifo "$run/pipe"; then
    (tee -a "$run/boot.log" <"$run/pipe"; : >"$run/told") &
    exec >"$run/pipe" 2>&1
fi
stay() {  # whoever waits for this machine may read why it ends, where the cloud forgets that with it
    [ @stays@ = 0 ] || { sleep @stays@ & wait $!; }
}
fail() {
    echo "@cannot@$*"
    stay
    exit 1
}
retry() {  # a minute and a half in all, and what the tries take
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ "$tries" -lt 6 ] || return 1
        sleep $((tries * 6))
    done
}
echo "kubeq: this machine becomes node @node@; it ends at the latest in @lifetime@ s"

"""
KEY = """\
# The pool's key may log in as root, from wherever the machine's network lets somebody in.
mkdir -p /root/.ssh
grep -qxF @key@ /root/.ssh/authorized_keys 2>/dev/null || printf '%s\\n' @key@ >>/root/.ssh/authorized_keys
! command -v restorecon >/dev/null 2>&1 || restorecon -R /root/.ssh

"""
LETS_IN = (
    r'command="if [ -n \"$SSH_ORIGINAL_COMMAND\" ]; then eval \"$SSH_ORIGINAL_COMMAND\"; else exec \"$SHELL\" -l; fi" '
)
"""Before a key that may log in: does what was asked for. Some images, Amazon's among them, let root in by a key only if
a command stands beside it (`PermitRootLogin forced-commands-only`, sshd_config(5)).
"""
VOLUMES = """\
# 4. Its volumes. What has something on it is not formatted.
unused() {  # unused BYTES: a disk of that size that nobody uses
    for disk in /sys/block/*; do
        name=${disk##*/}
        case $name in loop* | ram* | zram* | sr* | fd* | dm-* | md*) continue ;; esac
        [ "$(cat "$disk/size")" = $(($1 / 512)) ] || continue
        [ -z "$(ls "$disk/holders")$(ls -d "$disk/$name"* 2>/dev/null)" ] || continue
        [ ! -b "/dev/$name" ] || grep -q "^/dev/$name " /proc/mounts || { echo "/dev/$name" && return; }
    done
    return 1
}
found() {  # found LABEL BYTES DEVICE: where the volume is now
    blkid -L "$1" || { [ -b "$3" ] && echo "$3"; } || unused "$2"
}
volume() {  # volume PATH LABEL BYTES DEVICE
    mountpoint -q "$1" && return
    tries=0
    until device=$(found "$2" "$3" "$4"); do
        tries=$((tries + 1))
        [ "$tries" -lt 60 ] || fail "the volume for $1 does not appear"
        sleep 2
    done
    blkid -p "$device" >/dev/null 2>&1
    case $? in
    0) ;;
    2) mkfs.ext4 -q -F -L "$2" "$device" || fail "$device cannot be formatted for $1" ;;
    *) fail "it cannot be seen what is on $device, which was to be mounted at $1" ;;
    esac
    mkdir -p "$1" && mount "$device" "$1" || fail "$device cannot be mounted at $1"
    echo "kubeq: $device is mounted at $1"
}
@volumes@
"""
PACKAGES = """\
# 5. What is missing is installed.
have() { command -v "$1" >/dev/null 2>&1; }
add() {  # add PACKAGE...: the first of them that can be had
    export DEBIAN_FRONTEND=noninteractive
    if have apt-get; then
        timeout 300 apt-get -q -o DPkg::Lock::Timeout=120 update
        set -- "timeout 600 apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends" "$@"
    elif have dnf; then
        set -- "timeout 600 dnf -q -y install" "$@"
    else
        fail "it has neither apt-get nor dnf to install $1 with"
    fi
    with=$1
    shift
    for package; do
        $with "$package" && return
    done
    return 1
}
answers() { timeout 20 docker version >/dev/null 2>&1; }
have docker || retry add docker.io docker moby-engine || fail "Docker cannot be installed"
have iptables || retry add iptables iptables-nft || fail "iptables cannot be installed"
answers || systemctl start docker 2>/dev/null || service docker start 2>/dev/null || :
retry answers || fail "its Docker engine does not answer"

"""
METADATA = """\
# 6. No container reaches the service that gives this machine's credentials away. Names are still answered there.
drop() {  # drop PROGRAM ADDRESS TABLE CHAIN...
    program=$1 address=$2 table=$3
    shift 3
    "$program" -w 60 -t "$table" -C "$@" -d "$address" -p tcp ! --dport 53 -j DROP 2>/dev/null ||
        "$program" -w 60 -t "$table" -I "$@" -d "$address" -p tcp ! --dport 53 -j DROP
}
close() {  # close PROGRAM ADDRESS: to whatever comes in by any interface, so to every bridge there will ever be
    drop "$1" "$2" raw PREROUTING ! -i lo ||
        { drop "$1" "$2" filter DOCKER-USER && drop "$1" "$2" filter INPUT ! -i lo; }
}
for address in 169.254.169.254 169.254.170.2 169.254.170.23; do
    close iptables "$address" || fail "its metadata service $address cannot be closed to tasks"
done
for address in fd00:ec2::254 fd00:ec2::23 fd20:ce::254; do
    close ip6tables "$address" || ! grep -v ' lo$' /proc/net/if_inet6 2>/dev/null | grep -qv '^fe80' ||
        fail "its metadata service $address cannot be closed to tasks"
done

"""
ARCHIVE = """\
# 7. The agent, as itself out of the store, by its digest.
find_python() {
    for python in python3 @pythons@; do
        "$python" -c 'import sys, json, ssl, zipfile, zlib; sys.exit(sys.version_info < (3, @least@))' 2>/dev/null &&
            return
    done
    return 1
}
with_python() { find_python || { add @packages@ && find_python; }; }
retry with_python || fail "Python 3.@least@ or newer cannot be installed"
@exports@
archive=$kept/agents/@sha256@.pyz
"$python" - @url@ "$archive" @digest@ <<'END_OF_PROGRAM' || fail "the agent cannot be fetched"
@fetcher@END_OF_PROGRAM

"$python" "$archive" @supervise@ &
"""
IMAGE = """\
# 7. The agent's image, as itself out of the store, by its digest.
@exports@
image=$kept/agents/@sha256@.tar.gz
metadata="http://${GCE_METADATA_HOST:-169.254.169.254}/computeMetadata/v1/instance/service-accounts/default/token"
identity() {
    token=$(curl -sS -f -m 20 -H 'Metadata-Flavor: Google' "$metadata" |
        sed -n 's/.*"access_token" *: *"\\([^"]*\\)".*/\\1/p') && [ -n "$token" ]
}
fetch() {
    identity && printf 'header = "Authorization: Bearer %s"\\n' "$token" |
        curl -sS -f --connect-timeout 20 -m 600 -K - -o "$image" @url@ &&
        echo "@sha256@  $image" | sha256sum -c >/dev/null
}
load() { timeout 300 docker load -q -i "$image"; }
have curl || retry add curl || fail "curl cannot be installed"
if [ ! -e "$image.loaded" ] || ! docker image inspect @image@ >/dev/null 2>&1; then
    mkdir -p "$kept/agents"
    retry fetch || fail "the agent's image cannot be fetched as this machine"
    retry load || fail "the agent's image cannot be loaded"
    : >"$image.loaded"
    rm -f "$image"
fi
docker rm -f @container@ >/dev/null 2>&1
@command@ &
"""
WAIT = """\
agent=$! told=
trap 'told=1; kill -TERM "$agent" 2>/dev/null' TERM INT
wait "$agent"
code=$?
while kill -0 "$agent" 2>/dev/null; do
    wait "$agent"
    code=$?
done
[ "$code" = 0 ] || [ -n "$told" ] || [ -e "$run/registered" ] || stay
exit "$code"
"""
