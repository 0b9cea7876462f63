"""The image of a host that one can log in to: sshd and a Docker engine of its own, from this machine's files.

What the machine lacks (sshd above all) comes from Debian's packages, which are unpacked and not installed. The image is
made once a recipe; its tag is a digest of what goes in. Two kinds of host can be had from it: with and without Python,
with and without Docker, as `entry` is told by its environment.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "kubeq-ssh-host"
PACKAGES = ("openssh-server", "openssh-sftp-server", "libwrap0", "tcsh")
ENGINE = (
    *("docker", "dockerd", "docker-proxy", "docker-init", "containerd", "containerd-shim-runc-v2", "runc"),
    *("ip", "tini", "rsync", "curl"),
)
USERS = """\
root:x:0:0:root:/root:/bin/bash
sshd:x:110:65534::/run/sshd:/usr/sbin/nologin
ada:x:1000:1000:Ada:/home/ada:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
GROUPS = "root:x:0:\nada:x:1000:\ndocker:x:999:ada\nnogroup:x:65534:\n"
SHADOW = "root:*:19000:0:99999:7:::\nada:*:19000:0:99999:7:::\n"
SSHD = """\
Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
AuthorizedKeysFile .ssh/authorized_keys
AllowTcpForwarding yes
AllowAgentForwarding yes
MaxSessions 100
MaxStartups 100:30:200
Subsystem sftp /usr/lib/openssh/sftp-server
"""
ENTRY = """\
#!/bin/sh
# Starts sshd, and dockerd again whenever it ends; as PID 1's child, so that `docker kill` is a power cut.
mkdir -p /run/sshd /root/.ssh /home/ada/.ssh
cat /proc/sys/kernel/random/uuid > /run/boot_id  # /run is empty after a reboot, as on a real machine
mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
[ -f /root/.ssh/authorized_keys ] ||
    printf '%s\\n' "$AUTHORIZED" | tee /root/.ssh/authorized_keys > /home/ada/.ssh/authorized_keys
chown -R 1000:1000 /home/ada && chmod 700 /root/.ssh /home/ada/.ssh
[ -f /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
[ -z "$WITHOUT_PYTHON" ] || rm -f /usr/local/bin/python* /usr/bin/python*
[ -z "$PROFILE" ] || printf '%s\\n' "$PROFILE" | tee /root/.bashrc > /home/ada/.bashrc
[ -n "$WITHOUT_DOCKER" ] && rm -f /usr/bin/docker
/usr/sbin/sshd
while [ -z "$WITHOUT_DOCKER" ]; do
    rm -f /var/run/docker.pid /var/run/docker/containerd/containerd.pid
    dockerd --group 999 --storage-driver overlay2 >>/var/log/dockerd.log 2>&1
    sleep 1
done
exec sleep 1000000000
"""


def ssh_host_image() -> str:
    """The image's name; it is made first if need be. Raises RuntimeError saying what is missing here."""
    build = _base_recipe()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kubeq"
    with build.locked(cache):
        unpacked = _unpacked(cache / f"ssh-host-{'-'.join(PACKAGES)}")
        programs = _programs(unpacked)
        name = f"{REPOSITORY}:{_digest(build, programs)}"
        if not build.has_image(name):
            image = build.import_image(_tree(build, cache, unpacked, programs), "sh")
            build.docker("tag", image, name)
    return name


def _base_recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kubeq_images_base", ROOT / "images/base/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _unpacked(folder: Path) -> Path:
    """A folder with the packages' files, downloaded once."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        download = ["apt-get", "download", "-q", *PACKAGES]
        if subprocess.run(download, cwd=name, capture_output=True).returncode != 0:
            subprocess.run(["apt-get", "update", "-q"], capture_output=True)
            subprocess.run(download, cwd=name, capture_output=True)
        packages = sorted(Path(name).glob("*.deb"))
        if len(packages) != len(PACKAGES):
            raise RuntimeError(f"apt-get could not download {', '.join(PACKAGES)}")
        tree = Path(name) / "tree"
        for package in packages:
            subprocess.run(["dpkg-deb", "-x", package, tree], check=True)
        tree.rename(folder)
    return folder


def _programs(unpacked: Path) -> dict[str, Path]:
    """Paths in the image and the programs that go there."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/libexec/docker"
    found = {
        "usr/sbin/sshd": unpacked / "usr/sbin/sshd",
        "usr/lib/openssh/sftp-server": unpacked / "usr/lib/openssh/sftp-server",
        "bin/tcsh": unpacked / "bin/tcsh",
    }
    for name in (*ENGINE, "ssh-keygen", "iptables"):
        program = shutil.which(name, path="/usr/bin:/usr/sbin:" + path)
        if program is not None:
            found[f"usr/sbin/{name}"] = Path(program).resolve()
    missing = {"dockerd", "containerd", "runc", "ssh-keygen", "iptables"} - {Path(place).name for place in found}
    if missing:
        raise RuntimeError(f"this machine has no {', '.join(sorted(missing))} to make a host with Docker of")
    return found


def _digest(build: ModuleType, programs: dict[str, Path]) -> str:
    total = hashlib.sha256(Path(__file__).read_bytes() + Path(build.__file__ or "").read_bytes())
    for place, program in sorted(programs.items()):
        status = program.stat()
        total.update(f"{place} {program} {status.st_size} {status.st_mtime_ns}".encode())
    total.update(str(build.python_program()).encode())
    return total.hexdigest()[:12]


def _tree(build: ModuleType, cache: Path, unpacked: Path, programs: dict[str, Path]) -> object:
    tree = build.python_tree(build.static_busybox(cache))
    libraries = f"lib/{os.uname().machine}-linux-gnu"
    os.environ["LD_LIBRARY_PATH"] = f"{unpacked / libraries}:{unpacked / 'usr' / libraries}"
    try:
        needed = build.libraries_of(list(programs.values()))
    finally:
        del os.environ["LD_LIBRARY_PATH"]
    build.add_libraries(tree, {name: path for libraries in needed.values() for name, path in libraries.items()})
    for place, program in programs.items():
        tree.file(place, program)
    tree.link("usr/bin/docker", "../sbin/docker")
    tree.file("usr/sbin/xtables-nft-multi", programs["usr/sbin/iptables"])
    for name in ("iptables", "ip6tables", "iptables-save", "ip6tables-save", "iptables-restore", "ip6tables-restore"):
        tree.link(f"usr/sbin/{name}", "xtables-nft-multi")
    for plugin in Path(f"/usr/lib/{os.uname().machine}-linux-gnu/xtables").glob("*.so"):
        tree.file(str(plugin), plugin)
    for path, content, mode in (
        ("etc/passwd", USERS, 0o644),
        ("etc/group", GROUPS, 0o644),
        ("etc/shadow", SHADOW, 0o600),
        ("etc/ssh/sshd_config", SSHD, 0o644),
        ("usr/local/sbin/entry", ENTRY, 0o755),
    ):
        tree.text(path, content, mode)
    tree.directory("var/log")
    tree.directory("var/lib/docker")
    tree.link("var/run", "/run")
    return tree
