"""The process of a hook that is Python or a URL: `python -m kubeq.actions.hook_process py|http`, the report on stdin.

What it is to do stands in the environment. It says why it failed, in a line, and ends with 1. It is run in the user's
folder, of which nothing is imported but by the hook itself.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import urllib.error
import urllib.request
from pathlib import Path

from kubeq.actions.hooks import ARGUMENT
from kubeq.core.hooks import HookKind

ANSWER_S = 30.0


def main(kind: HookKind) -> None:
    """Do what the hook says. Raises SystemExit with the reason if that fails."""
    argument, content = os.environ[ARGUMENT], sys.stdin.buffer.read()
    if kind is HookKind.HTTP:
        post(argument, content)
        return
    known = {"report": json.loads(content)}
    if Path(argument).is_absolute():
        sys.path.insert(0, str(Path(argument).parent))
        runpy.run_path(argument, init_globals=known, run_name="__main__")
    else:
        sys.path.insert(0, "")
        exec(compile(argument, "--notify", "exec"), {"__name__": "__main__", **known})


def post(url: str, content: bytes) -> None:
    """Have the server take the report. Raises SystemExit with its answer, or with why there was none."""
    headers = {"Content-Type": "application/json", "User-Agent": "kubeq"}
    request = urllib.request.Request(url, data=content, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S):
            return
    except urllib.error.HTTPError as error:
        raise SystemExit(f"the server answered {error.code} {error.reason}") from None
    except (OSError, ValueError) as error:
        raise SystemExit(f"the server cannot be reached: {getattr(error, 'reason', error)}") from None


if __name__ == "__main__":
    main(HookKind(sys.argv[1]))
