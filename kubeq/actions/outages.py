"""What does not answer while somebody waits: since when, and what is told of it how often.

The work itself needs neither: nodes keep what they run, and deliver it later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from kubeq.core.clock import Clock
from kubeq.core.quantities import format_duration
from kubeq.errors import BackendError

TELL_AFTER_S = 10.0
"""What is shorter than this nobody has to know."""
TELL_EVERY_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """`what` has not answered since then (monotonic time); `why` is its last error."""

    what: str
    why: str
    since: float


class Asked:
    """Something that is asked again and again. For one writing thread."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.outage: Outage | None = None

    def failed(self, error: BackendError, began: float) -> None:
        """It did not answer what was asked then."""
        since = began if self.outage is None else self.outage.since
        self.outage = Outage(what=self._what, why=error.message, since=since)

    def answered(self) -> None:
        """It did."""
        self.outage = None


class Announcer:
    """What is to be told of outages, in sentences. For one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[str, tuple[float, float]] = {}

    def news(self, outages: Sequence[Outage]) -> Iterator[str]:
        """What is worth a line now: an outage that lasts, seldom again, and its end."""
        now = self._clock.monotonic()
        for outage in outages:
            _, told_at = self._told.get(outage.what, (0.0, float("-inf")))
            if now - outage.since >= TELL_AFTER_S and now - told_at >= TELL_EVERY_S:
                self._told[outage.what] = outage.since, now
                at = datetime.fromtimestamp(self._clock.now() - (now - outage.since), UTC)
                yield (
                    f"{outage.what} has not answered since {at:%H:%M:%SZ} ({outage.why}); it is asked again and "
                    "again, and what runs on the nodes goes on"
                )
        for what in self._told.keys() - {outage.what for outage in outages}:
            since, _ = self._told.pop(what)
            yield f"{what} answers again, after {format_duration(now - since)}"
