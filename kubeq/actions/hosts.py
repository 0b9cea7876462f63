"""Looking at the user's own hosts: what each has, and what keeps one from being used. Starts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kubeq.actions.launching import pool_of_request
from kubeq.actions.session import Session
from kubeq.config import with_flags
from kubeq.errors import UsageError
from kubeq.nodes.base import HostSeen


def look_at_hosts(session: Session, file: Path | None) -> Sequence[HostSeen]:
    """Every host of the configuration, or of that file, in order; all are looked at side by side. Raises UsageError."""
    if file is not None:
        flags = {"hosts": (str(session.config.place.base / file),)}
        session = Session(with_flags(session.config, flags), session.clock)
    if not session.config.hosts:
        raise UsageError(
            "no hosts are known", hint="name a file: kubeq hosts FILE; or write hosts = ... in the configuration"
        )
    return session.provider.look(pool_of_request(session, private=False).id)
