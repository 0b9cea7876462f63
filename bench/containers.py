"""Whole sweeps of containers against `xargs -P2 docker run --rm` (targets 1, 1b, 1c, 2, 3, 8b, 9, 11)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.memory import peak_rss
from bench.rounds import KUBEQ, ROOT, Home, Target, compare, report

SLOTS = 2


def run(tasks: int = 200, rounds: int = 3) -> None:
    """Print the ratios."""
    image = _image()

    def sweep(*options: str, command: tuple[str, ...] = ("true",), count: int = tasks) -> None:
        home = Home()
        home.kubeq("-q", "sub", "--local", *options, "-i", image, "--seq", str(count), *command)
        home.remove()

    def xargs(*options: str, command: str = "true", count: int = tasks) -> None:
        docker = " ".join(("docker run --rm", *options, image, command))
        subprocess.run(f"seq {count} | xargs -P{SLOTS} -I@ {docker} > /dev/null", shell=True, check=True)

    compare(f"1   {tasks} x true, whole sweep", sweep, xargs, Target(0.75, 0.50), rounds=rounds)
    compare(
        f"1b  {tasks} x true, no network on both sides",
        lambda: sweep("--network", "none"),
        lambda: xargs("--network", "none"),
        Target(0.95, 0.75),
        rounds=rounds,
    )
    compare(
        f"1c  {tasks} x true, a namespace a task on both sides",
        lambda: sweep("--network", "bridge"),
        xargs,
        Target(1.00, 0.85),
        rounds=rounds,
    )
    compare(
        "3   40 x sleep 0.5",
        lambda: sweep(command=("sleep", "0.5"), count=40),
        lambda: xargs(command="sleep 0.5", count=40),
        Target(0.80, 0.70),
        rounds=rounds,
    )
    compare(
        "8b  one task, whole / docker run",
        lambda: sweep(count=1),
        lambda: subprocess.run(["docker", "run", "--rm", image, "true"], check=True),
        Target(5, 3),
        rounds=rounds,
    )
    _megabytes(image, rounds)
    _memory(image, tasks, rounds)
    _cached_inputs(image, rounds)


def _memory(image: str, tasks: int, rounds: int) -> None:
    """The most memory that all processes of either side had at one moment, in MiB; not the containers'."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        for figures, command in (
            (theirs, ("sh", "-c", f"seq {tasks} | xargs -P{SLOTS} -I@ docker run --rm {image} true > /dev/null")),
            (ours, (*KUBEQ, "-q", "sub", "--local", "-i", image, "--seq", str(tasks), "true")),
        ):
            home = Home()
            figures.append(peak_rss(command, home) / 2**20)
            home.remove()
    report(f"9   MiB at the peak, all processes, {tasks} x true", ours, theirs, Target(3, 2))


def _cached_inputs(image: str, rounds: int, tasks: int = 20) -> None:
    """A whole sweep whose tasks have a large input each that the node's cache has, against a small one."""
    home = Home()
    for name, size in (("large", 100 * 2**20), ("small", 2**10)):
        with (home.path / name).open("wb") as file:
            file.truncate(size)
            file.write(name.encode())

    def sweep(name: str, count: int = tasks) -> None:
        home.kubeq("-q", "sub", "--local", "-i", image, "-u", name, "--seq", str(count), "true")

    for name in ("large", "small"):
        sweep(name, 1)
    compare(
        f"11  {tasks} x true with 100 MB that is cached / with 1 KB",
        lambda: sweep("large"),
        lambda: sweep("small"),
        Target(1.5, 1.1),
        rounds=rounds,
    )
    home.remove()


def _megabytes(image: str, rounds: int, tasks: int = 50) -> None:
    """1 MB in and 1 MB out a task, upload and fetch included."""
    home = Home()
    inputs = home.path / "in"
    inputs.mkdir()
    block = bytes(range(256)) * 4000
    for number in range(tasks):
        (inputs / f"{number}").write_bytes(number.to_bytes(4, "big") + block)
    table = "file\n" + "".join(f"in/{number}\n" for number in range(tasks))

    def ours() -> None:
        own = Home()
        (own.path / "in").symlink_to(inputs)
        (own.path / "p.csv").write_text(table)
        own.kubeq("-q", "sub", "--local", "-i", image, "--params", "p.csv", "--fetch", "out", "cp", "^{file}", "copy")
        assert len(list(own.path.glob("out/*/copy"))) == tasks
        own.remove()

    def theirs() -> None:
        out = Path(home.path / "out")
        out.mkdir(exist_ok=True)
        binds = f"-v {inputs}:/in:ro -v {out}:/out"
        subprocess.run(
            f"seq 0 {tasks - 1} | xargs -P{SLOTS} -I@ docker run --rm {binds} {image} cp /in/@ /out/@",
            shell=True,
            check=True,
        )

    compare(f"2   {tasks} x 1 MB in and out, with upload and fetch", ours, theirs, Target(0.85, 0.55), rounds=rounds)
    home.remove()


def _image() -> str:
    built = subprocess.run(
        ["python3", str(ROOT / "images/base/build.py"), "--minimal"], check=True, capture_output=True, text=True
    )
    return built.stdout.split()[-1]
