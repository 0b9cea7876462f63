"""What is loaded of Google's client for Compute Engine: what is used, and not the rest."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from kubeq.nodes.gce_client import CLIENTS, PACKAGE, compute
assert PACKAGE not in sys.modules, "or its own first module would never run"
assert f"{PACKAGE}.services.autoscalers" not in sys.modules
assert compute.Instance(name="one").name == "one"
"""


def test_only_what_is_used_is_loaded() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
