"""`python -m bench [containers|records|files|relay|ssh|warm|scale]...`: all of them but `scale` by default."""

from __future__ import annotations

import sys

from bench import containers, files, records, relay, scale, ssh, warm

SUITES = {
    "containers": containers.run,
    "records": records.run,
    "files": files.run,
    "relay": relay.run,
    "ssh": ssh.run,
    "warm": warm.run,
    "scale": scale.run,
}


def main() -> None:
    """Run the suites that were named, or all."""
    for name in sys.argv[1:] or [name for name in SUITES if name != "scale"]:
        if name not in SUITES:
            sys.exit(f"there is no benchmark {name!r}; there are {', '.join(SUITES)} (and bench/claims.py by itself)")
        SUITES[name]()


main()
