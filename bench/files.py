"""Storing inputs: one large file, the same again, many small ones (targets 10, 10b, 10c).

What kubeq stores is durable when it says so, so the copies that it is compared with are synced too.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from bench.rounds import Home, Target, compare


def run(rounds: int = 3, size: int = 2**30) -> None:
    """Print the ratios."""
    data = Home()
    large, small = data.path / "large.bin", data.path / "small"
    with large.open("wb") as file:
        for _ in range(size // 2**20):
            file.write(os.urandom(2**20))
    small.mkdir()
    for number in range(1000):
        (small / f"{number}").write_bytes(number.to_bytes(4, "big") * 1024)

    def store(home: Home, source: str) -> None:
        home.kubeq("-q", "sub", "--prepare", "-i", "none", "-u", source, "true")

    def fresh(source: str) -> None:
        home = Home()
        store(home, source)
        home.remove()

    def hash_and_copy() -> None:
        subprocess.run(["sha256sum", str(large)], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["cp", str(large), str(data.path / "copy")], check=True)
        subprocess.run(["sync", str(data.path / "copy")], check=True)
        (data.path / "copy").unlink()

    def hash_and_copy_many() -> None:
        copies = data.path / "copies"
        subprocess.run(
            f"sha256sum {small}/* > /dev/null && cp -r {small} {copies} && sync -f {copies}", shell=True, check=True
        )
        shutil.rmtree(data.path / "copies")

    compare(
        "10  1 GiB stored / sha256sum + cp + sync",
        lambda: fresh(str(large)),
        hash_and_copy,
        Target(0.40, 0.22),
        rounds=rounds,
    )
    again = Home()
    store(again, str(large))
    compare(
        "10b the same inputs again / the first time",
        lambda: store(again, str(large)),
        lambda: fresh(str(large)),
        Target(0.1, 0.02),
        rounds=rounds,
    )
    compare(
        "10c 1,000 files of 4 KiB stored / sha256sum + cp -r + sync",
        lambda: fresh(str(small)),
        hash_and_copy_many,
        Target(6, 2.5),
        rounds=rounds,
    )
    for home in (data, again):
        home.remove()
