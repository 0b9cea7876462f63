"""How the answer of `check` looks: a line a finding, as it comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kubeq.actions.checking import CHECKS, Finding, Outcome
from kubeq.cli.shown import cell

HEADER = ("check", "target", "outcome", "message", "hint", "duration_s")
_MARKS = {Outcome.PASSED: "ok", Outcome.FAILED: "FAILED", Outcome.SKIPPED: "-"}
_WIDTH = max(map(len, CHECKS))
_INDENT = " " * (len("FAILED") + 2 + _WIDTH + 2)


class CheckView:
    """Findings that are made while they are shown; `failed` holds the names of those that failed so far."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self._findings = findings
        self.failed: list[str] = []

    def text(self) -> Iterable[str]:
        for finding in self._noted():
            took = "" if finding.duration_s is None else f" ({finding.duration_s * 1000:.0f} ms)"
            said = f": {finding.message}" if finding.message else ""
            yield f"{_MARKS[finding.outcome]:<6}  {finding.check:<{_WIDTH}}  {finding.target}{said}{took}"
            if finding.hint:
                yield f"{_INDENT}hint: {finding.hint}"

    def json(self) -> Mapping[str, Any]:
        rows = [dict(zip(HEADER, row, strict=True)) for row in self._rows()]
        return {"ok": not self.failed, "checks": rows}

    def quiet(self) -> Iterable[str]:
        return [finding.check for finding in self._noted() if finding.outcome is Outcome.FAILED]

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        return HEADER, ([cell(value) for value in row] for row in self._rows())

    def _rows(self) -> Iterator[list[object]]:
        for finding in self._noted():
            took = None if finding.duration_s is None else round(finding.duration_s, 4)
            yield [finding.check, finding.target, str(finding.outcome), finding.message or None, finding.hint, took]

    def _noted(self) -> Iterator[Finding]:
        for finding in self._findings:
            if finding.outcome is Outcome.FAILED:
                self.failed.append(finding.check)
            yield finding
