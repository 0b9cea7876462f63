"""`kubeq-exec`, the small program that a container starts with: where the build for an architecture lies.

What it does, and why it is needed, stands at the top of `kubeq_exec.c`; the `Makefile` here rebuilds it. This
module only finds it: the runtime decides how it gets into a container.
"""

from pathlib import Path

_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}


def exec_path(architecture: str) -> Path | None:
    """The program for an architecture, named as Docker or `uname -m` names it; None where we ship none.

    The file is executable where pip or git put it. An unpacker that drops modes may lose that: whoever mounts
    the program into a container copies it and sets mode 0755.
    """
    machine = _MACHINES.get(architecture.lower())
    if machine is None:
        return None
    path = Path(__file__).resolve().parent / f"kubeq-exec.{machine}"
    return path if path.is_file() else None
