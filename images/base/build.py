#!/usr/bin/env python3
"""Names a base image with Python on this machine's Docker engine, and makes one where no registry can be reached.

    python3 images/base/build.py              an image with sh, the usual tools and Python
    python3 images/base/build.py --minimal    an image with sh and the usual tools only (2 MB)

On stdout stands the image's name and nothing else; on stderr one line says which image was chosen, and why.
Without --minimal that is a public Python image if the engine has it or can pull it at once. If not, an equivalent
one is put together in seconds from this machine's own Python and a static busybox. Its tag is a digest of this
recipe and of the versions that go in, so that the next call finds it made; `:latest` names the last one made or
found.

KUBEQ_BASE=public insists on the public image, however long its pull takes; KUBEQ_BASE=local on the one of our own.

The image of our own holds: Python with its whole standard library (but its own tests and Tk), the libraries that it
needs, bash if this machine has it, busybox under the names of all its tools, certificates and time zones, the users
root and nobody. Any user id can run in it. It has no package manager, and pip only after `python3 -m ensurepip`,
where this machine's Python can do that.
"""

import argparse
import fcntl
import hashlib
import importlib.util
import io
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

PUBLIC = "python:3.11-slim"
PYTHON_REPOSITORY = "kubeq-base"
MINIMAL_REPOSITORY = "kubeq-busybox"
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
GROUP = "root:x:0:\nnogroup:x:65534:\n"
NAME_SERVICES = "passwd: files\ngroup: files\nhosts: files dns\n"

UNSHIPPED = frozenset({"site-packages", "dist-packages", "test", "tests", "idlelib", "turtledemo"})
UNSHIPPED_FILES = re.compile(r"_tkinter\..*|.*\.a|.*\.opt-[12]\.pyc|EXTERNALLY-MANAGED")
EXTRA_PROGRAMS = ("bash",)
# What the C library itself loads at run time (name services, the end of threads), and what compiled wheels may count on
# (PEP 513 and its successors list the libraries that every such system has).
RUN_TIME_LIBRARIES = (
    *("libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2", "libgcc_s.so.1"),
    *("libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1", "libstdc++.so.6", "libutil.so.1"),
)

# What must work in a fresh container; run there before the image gets its name. Modules follow.
CHECK_PYTHON = """
import os, pwd, sys, tempfile, threading
assert sys.prefix == "/usr/local", sys.prefix
assert sys.stdout.encoding.lower() == "utf-8", sys.stdout.encoding
assert pwd.getpwuid(0).pw_name == "root" and pwd.getpwuid(65534).pw_name == "nobody"
thread = threading.Thread(target=tempfile.TemporaryFile); thread.start(); thread.join()
import """
MODULES = ("csv", "json", "multiprocessing", "socket", "_bz2", "_ctypes", "_lzma", "_sqlite3", "_ssl", "zlib")
CHECK_SHELL = 'test -w /tmp && test -x /usr/bin/awk && [ "$(echo b a | tr " " "\n" | sort | head -n 1)" = a ]'


class CannotBuild(Exception):
    """No image can be named; the text is one sentence for the user."""


def say(text: str) -> None:
    print(f"base: {text}", file=sys.stderr, flush=True)


# ---- the engine ----


def docker(*words: str, timeout: float | None = None) -> str | None:
    """What `docker WORDS` printed; None if it failed or did not end in time."""
    try:
        done = subprocess.run(
            ["docker", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def has_image(name: str) -> bool:
    return docker("image", "inspect", "--format", "{{.Id}}", name) is not None


def import_image(tree: "Tree", command: str) -> str:
    """The id of a new image with the files of `tree`."""
    changes = [f"ENV PATH={SEARCH_PATH}", "ENV LANG=C.UTF-8", f'CMD ["{command}"]']
    words = ["docker", "import", *(w for c in changes for w in ("--change", c)), "-"]
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with process.stdin as pipe:
                tree.write(pipe)
        except BrokenPipeError:
            pass
        image = process.stdout.read().decode().strip()
        process.stdout.close()
        if process.wait() != 0:
            complaints.seek(0)
            raise CannotBuild(f"docker import failed: {complaints.read().decode().strip()}")
    return image


def check(image: str, *command: str) -> None:
    """Runs a command in the image as a user that it does not know; CannotBuild if that fails."""
    words = ["docker", "run", "--rm", "--network", "none", "--user", "12345:12345", image, *command]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        docker("image", "rm", image)
        raise CannotBuild(f"the image made here does not work: {(done.stderr or done.stdout).strip()}")


# ---- the files of an image ----


class Tree:
    """Files to be, by their path in the image; each with what it is made of. Directories appear as needed."""

    def __init__(self) -> None:
        self._members: dict[str, tuple[tarfile.TarInfo, Path | bytes | None]] = {}
        for name, target in (("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")):
            self.directory(target)
            self.link(f"/{name}", target)
        for name in ("dev", "etc", "home", "proc", "run", "sys", "usr/local/bin", "usr/local/sbin", "var"):
            self.directory(name)
        self.directory("root", 0o700)
        self.directory("tmp", 0o1777)
        self.directory("var/tmp", 0o1777)

    def directory(self, path: str, mode: int = 0o755) -> None:
        self._put(path, tarfile.DIRTYPE, mode, None)

    def link(self, path: str, target: str) -> None:
        self._put(path, tarfile.SYMTYPE, 0o777, None).linkname = target

    def text(self, path: str, content: str, mode: int = 0o644) -> None:
        data = content.encode()
        self._put(path, tarfile.REGTYPE, mode, data).size = len(data)

    def file(self, path: str, source: Path) -> None:
        """A copy of `source`, or of what it is a link to, readable for everybody."""
        status = source.stat()
        mode = 0o755 if status.st_mode & 0o100 else 0o644
        info = self._put(path, tarfile.REGTYPE, mode, source)
        info.size, info.mtime = status.st_size, int(status.st_mtime)  # a .pyc is good for one time of its source

    def has(self, path: str) -> bool:
        return self._name(path) in self._members

    def write(self, stream: IO[bytes]) -> None:
        """Everything as one tar archive, parents first."""
        with tarfile.open(fileobj=stream, mode="w|", bufsize=1 << 20) as archive:
            for _, (info, content) in sorted(self._members.items()):
                if isinstance(content, Path):
                    with content.open("rb") as source:
                        archive.addfile(info, source)
                else:
                    archive.addfile(info, io.BytesIO(content) if content is not None else None)

    @staticmethod
    def _name(path: str) -> str:
        """`/lib/x` as `usr/lib/x`: the old top-level directories are links in the image."""
        name = path.strip("/")
        top, _, rest = name.partition("/")
        return f"usr/{name}" if rest and top in ("bin", "sbin", "lib", "lib64") else name

    def _put(self, path: str, kind: bytes, mode: int, content: Path | bytes | None) -> tarfile.TarInfo:
        name = self._name(path)
        parent = str(PurePosixPath(name).parent)
        if parent != "." and parent not in self._members:
            self.directory(parent)
        info = tarfile.TarInfo(name)
        info.type, info.mode = kind, mode
        self._members[name] = (info, content)
        return info


# ---- busybox ----


def is_static(program: Path) -> bool:
    """Whether a program runs without any library: no loader is named in its first page."""
    with program.open("rb") as file:
        head = file.read(4096)
    return head.startswith(b"\x7fELF") and b"/ld-" not in head


def static_busybox(cache: Path) -> Path:
    """A busybox that needs no library: this machine's, else from Debian's package, which is not installed."""
    unpacked = cache / "busybox-static"
    found = shutil.which("busybox")
    for candidate in (*([Path(found)] if found else []), unpacked / "bin" / "busybox", unpacked / "usr/bin/busybox"):
        if candidate.is_file() and is_static(candidate):
            return candidate
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise CannotBuild("there is no static busybox here and no Debian to take it from; install busybox-static")
    say("no static busybox here: downloading the package busybox-static")
    with tempfile.TemporaryDirectory() as name:
        download = ["apt-get", "download", "-q", "busybox-static"]
        if subprocess.run(download, cwd=name, capture_output=True).returncode != 0 and os.geteuid() == 0:
            subprocess.run(["apt-get", "update", "-q"], capture_output=True)
            subprocess.run(download, cwd=name, capture_output=True)
        unpacked.mkdir(parents=True, exist_ok=True)
        for package in Path(name).glob("busybox-static_*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True)
    for candidate in (unpacked / "bin" / "busybox", unpacked / "usr/bin/busybox"):
        if candidate.is_file():
            return candidate
    raise CannotBuild("there is no static busybox here and apt-get cannot download it; install busybox-static")


def minimal_tree(busybox: Path) -> Tree:
    """sh and the usual tools, two users, and the directories that programs expect."""
    tree = Tree()
    tree.file("usr/bin/busybox", busybox)
    tools = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for tool in tools:
        if tool != "busybox":
            tree.link(f"usr/bin/{tool}", "busybox")
    tree.text("etc/passwd", PASSWD)
    tree.text("etc/group", GROUP)
    tree.text("etc/nsswitch.conf", NAME_SERVICES)
    return tree


# ---- Python ----


def python_program() -> Path:
    """The interpreter itself: behind links, and outside of a virtual environment."""
    return Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()


def standard_library() -> tuple[Path, str]:
    """Where the standard library is, and where it must be below a prefix (lib/python3.11, or lib64/...)."""
    path = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix}))
    return path, f"{sys.platlibdir}/{path.name}"


def shipped_files(library: Path) -> Iterator[Path]:
    """The files of the standard library that go into the image."""
    for directory, names, files in os.walk(library):
        names[:] = [n for n in names if n not in UNSHIPPED and not n.startswith("config-")]
        for name in files:
            path = Path(directory, name)
            if path.is_file() and not UNSHIPPED_FILES.fullmatch(name):
                yield path


def libraries_of(programs: Sequence[Path]) -> dict[Path, dict[str, Path]]:
    """What each program loads, by the name it asks for (the loader itself by its whole path).

    A program that cannot find all it needs on this machine is left out.
    """
    done = subprocess.run(["ldd", *programs], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    program = programs[0]
    found: dict[Path, dict[str, Path]] = {program: {}}
    incomplete = set()
    for row in done.stdout.splitlines():
        if row.endswith(":") and not row.startswith("\t"):
            program = Path(row[:-1])
            found[program] = {}
        elif match := re.fullmatch(r"\s+(\S+) => (/\S+) \(0x\w+\)", row):
            found[program][match[1]] = Path(match[2])
        elif match := re.fullmatch(r"\s+(/\S+) \(0x\w+\)", row):
            found[program][match[1]] = Path(match[1])
        elif "not found" in row:
            incomplete.add(program)
    return {program: libraries for program, libraries in found.items() if program not in incomplete}


def add_libraries(tree: Tree, libraries: Mapping[str, Path]) -> None:
    """The libraries, all of them in the one directory where the loader looks in any case: that of libc."""
    libc = next((path for name, path in libraries.items() if name.startswith("libc.")), None)
    if libc is None:
        raise CannotBuild("this machine's Python is linked in a way that is not known here; set KUBEQ_BASE=public")
    for name, path in libraries.items():
        tree.file(name if name.startswith("/") else str(libc.parent / name), path)
    for name in RUN_TIME_LIBRARIES:
        if (libc.parent / name).is_file():
            tree.file(str(libc.parent / name), libc.parent / name)


def add_python(tree: Tree) -> None:
    """Python below /usr/local, as in the public image, wherever it is on this machine."""
    program, (library, place) = python_program(), standard_library()
    files = list(shipped_files(library))
    extras = [Path(p) for p in (shutil.which(name, path="/usr/bin:/bin") for name in EXTRA_PROGRAMS) if p]
    needed = libraries_of([program, *extras, *(f for f in files if f.suffix == ".so")])
    add_libraries(tree, {name: path for libraries in needed.values() for name, path in libraries.items()})

    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    tree.file(f"usr/local/bin/{version}", program)
    for name in ("python", "python3"):
        tree.link(f"usr/local/bin/{name}", version)
    for extra in extras:
        tree.file(f"usr/bin/{extra.name}", extra)
    for directory in ("site-packages", "lib-dynload"):
        tree.directory(f"usr/local/{place}/{directory}")
    for source in files:
        if source.suffix != ".so" or source in needed:
            tree.file(f"usr/local/{place}/{source.relative_to(library)}", source)


def add_machine_files(tree: Tree) -> None:
    """Certificates where this Python looks for them, time zones, and the locale in which text is UTF-8."""
    paths = ssl.get_default_verify_paths()
    for source in (paths.cafile, "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/cert.pem"):
        if source and Path(source).is_file():
            tree.file("etc/ssl/certs/ca-certificates.crt", Path(source))
            if not tree.has(paths.openssl_cafile):
                tree.link(paths.openssl_cafile, "/etc/ssl/certs/ca-certificates.crt")
            break
    for directory in (Path("/usr/share/zoneinfo"), Path("/usr/lib/locale/C.utf8")):
        for path in sorted(directory.rglob("*")):
            inside = path.relative_to(directory)
            if path.is_file() and inside.parts[0] not in ("posix", "right"):
                tree.file(str(path), path)


def python_tree(busybox: Path) -> Tree:
    tree = minimal_tree(busybox)
    add_python(tree)
    add_machine_files(tree)
    return tree


# ---- which image ----


def digest(parts: Iterable[bytes]) -> str:
    """A short name for all that an image is made of: this recipe, and this machine's versions of what goes in."""
    total = hashlib.sha256(Path(__file__).read_bytes())
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()[:12]


@contextmanager
def locked(cache: Path) -> Iterator[None]:
    """One builder at a time: a second one finds the image made."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "base.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def own_name(minimal: bool, cache: Path) -> str:
    """The name that an image made here and now would have."""
    busybox = static_busybox(cache).read_bytes()
    if minimal:
        return f"{MINIMAL_REPOSITORY}:{digest([busybox, platform.machine().encode()])}"
    python = f"{sys.version} {python_program()} {platform.machine()} {platform.libc_ver()}"
    return f"{PYTHON_REPOSITORY}:{digest([busybox, python.encode()])}"


def own_image(minimal: bool, cache: Path) -> tuple[str, str]:
    """The name of an image made here, now or earlier, and which of the two."""
    if sys.platform != "linux":
        raise CannotBuild(f"an image can be made from this machine's own files on Linux only, not on {sys.platform}")
    with locked(cache):
        name, how = own_name(minimal, cache), "made earlier"
        if not has_image(name):
            began = time.monotonic()
            tree = (minimal_tree if minimal else python_tree)(static_busybox(cache))
            image = import_image(tree, "sh" if minimal else "python3")
            check(image, "sh", "-c", CHECK_SHELL)
            if not minimal:
                have = [name for name in MODULES if importlib.util.find_spec(name)]
                check(image, "python3", "-c", CHECK_PYTHON + ", ".join(have))
            docker("tag", image, name)
            how = f"made in {time.monotonic() - began:.1f} s"
        docker("tag", name, f"{name.partition(':')[0]}:latest")
        return name, how


def chosen_image(pull_timeout: float, cache: Path) -> tuple[str, str]:
    """The name of a base with Python, and the reason for it in a few words."""
    wish = os.environ.get("KUBEQ_BASE", "")
    if wish not in ("", "local", "public"):
        raise CannotBuild(f"KUBEQ_BASE is {wish!r}; it can be local or public")
    if wish == "local":
        why_not_public = "KUBEQ_BASE=local"
    elif has_image(PUBLIC):
        return PUBLIC, "the public image, which the engine has"
    elif wish == "public" or sys.platform != "linux":
        if docker("pull", "-q", PUBLIC) is None:
            raise CannotBuild(f"the engine cannot pull {PUBLIC}, and no other base is wanted or possible here")
        return PUBLIC, "the public image, pulled just now"
    elif has_image(own_name(False, cache)):
        why_not_public = f"the engine does not have {PUBLIC}"
    elif pull_timeout <= 0:
        why_not_public = f"the engine does not have {PUBLIC}, and --no-pull was given"
    elif docker("pull", "-q", PUBLIC, timeout=pull_timeout) is not None:
        return PUBLIC, "the public image, pulled just now"
    else:
        why_not_public = f"{PUBLIC} could not be pulled (limit {pull_timeout:g} s)"
    name, how = own_image(False, cache)
    return name, f"this machine's Python {platform.python_version()}, {how}; {why_not_public}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minimal", action="store_true", help="busybox only, without Python")
    parser.add_argument("--no-pull", action="store_true", help="do not try to pull the public image")
    parser.add_argument("--pull-timeout", type=float, default=10, metavar="S", help="seconds for that (10)")
    options = parser.parse_args()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kubeq"
    try:
        if not docker("version", "--format", "{{.Server.Version}}", timeout=20):
            raise CannotBuild("no Docker engine answers; start one with: sh images/engine.sh")
        if options.minimal:
            name, how = own_image(True, cache)
            reason = f"busybox alone, {how}"
        else:
            name, reason = chosen_image(0 if options.no_pull else options.pull_timeout, cache)
    except CannotBuild as error:
        say(str(error))
        return 3
    say(f"{name}: {reason}")
    print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
