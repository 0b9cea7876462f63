"""`kubeq-consumer`: environment -> settings -> objects -> run the agent. With `--supervise`, again when it dies."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

from kubeq.core.clock import SystemClock
from kubeq.errors import KubeqError, UsageError
from kubeq.json_log import log_to
from kubeq_consumer.settings import AgentConfig, read_settings

log = logging.getLogger("kubeq_consumer")


def main() -> None:
    """Run an agent until it has a reason to leave."""
    try:
        config = read_settings(os.environ)
        match sys.argv[1:]:
            case []:
                log_to(config.log_path)
                run(config)
            case ["--supervise"]:
                sys.exit(supervise(config))
            case words:
                raise UsageError(f"the agent does not know {words[0]!r}", hint="it takes --supervise or nothing")
    except KubeqError as error:
        print(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""), file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)


def supervise(config: AgentConfig) -> int:
    """Run this program as a child, again when it dies; its last exit code."""
    from kubeq_consumer.supervising import Supervisor

    log_to(None)
    return Supervisor([sys.executable, *sys.orig_argv[1:-1]], signs=config.run_dir).run()


def run(config: AgentConfig) -> None:
    """Build the agent, clear up after dead ones, and work."""
    from kubeq_consumer.building import build

    os.umask(0o077)
    for name in [name for name in os.environ if name.startswith("KUBEQ_")]:
        del os.environ[name]  # nothing that the agent was told reaches a task of the process runtime
    threading.excepthook = _die
    built = build(config, SystemClock())
    signal.signal(signal.SIGTERM, lambda *_: built.end())
    signal.signal(signal.SIGINT, lambda *_: built.end())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    built.run()


def _die(what: threading.ExceptHookArgs) -> None:
    """A thread that the agent cannot do without has failed: end at once. Leases run out; the next agent clears up."""
    thread = what.thread.name if what.thread else "?"
    log.critical(
        "the %s failed; this agent ends",
        thread,
        exc_info=(what.exc_type, what.exc_value or what.exc_type(), what.exc_traceback),
    )
    os._exit(70)


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1])]
    main()
