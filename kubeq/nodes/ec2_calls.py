"""Requests to EC2 and the services beside it, made again while AWS throttles or fails for a moment; nothing else.

What is asked, and what an answer means, is for the modules beside this one to know.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from kubeq import aws
from kubeq.aws_errors import code_of, explain
from kubeq.errors import AccessDenied, BackendError
from kubeq.metering import Meter
from kubeq.pausing import Notice, pauses

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_ssm import SSMClient

PATIENCE_S = 60.0
"""So long a request is made again. EC2 gives back two launches a second once its first hundreds are used up ("Request
throttling for the EC2 API"), so a launch of many machines takes several of these."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
TELL_AFTER = 4
"""The failure in a row from which on somebody who waits is told why."""
EVERY = "*"
T = TypeVar("T")
log = logging.getLogger(__name__)


class Said(Exception):
    """AWS's "no", of a kind that the caller has something to do about: its code and its own words."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(f"{words.rstrip('.')} ({code})")
        self.code = code
        self.words = words


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """`sleep` gets seconds, `now` gives seconds that never go back, `draw` a number in [0, 1)."""

    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.monotonic
    draw: Callable[[], float] = random.random


@dataclass(frozen=True, kw_only=True)
class Ec2Calls:
    """The clients of a region and how long they are patient; safe to use from several threads."""

    region: str
    meter: Meter = field(default_factory=Meter)
    time: Time = field(default_factory=Time)
    notice: Notice = field(default_factory=lambda: Notice(log))

    @cached_property
    def ec2(self) -> EC2Client:
        return aws.client("ec2", self.region, self.meter)

    @cached_property
    def iam(self) -> IAMClient:
        return aws.client("iam", self.region, self.meter)

    @cached_property
    def ssm(self) -> SSMClient:
        return aws.client("ssm", self.region, self.meter)

    @cached_property
    def quotas(self) -> Any:
        return aws.client("service-quotas", self.region, self.meter)

    def ask(
        self,
        thing: str,
        request: Callable[[], T],
        *,
        expected: Collection[str] = (),
        again: Callable[[Said], bool] | None = None,
        service: str = "ec2",
    ) -> T:
        """What the request answers in the end; `thing` is what it is about ("the machines in eu-west-1").

        Raises Said for an answer with one of the expected codes (EVERY: any that is neither a passing one nor a lack of
        permission), and BackendError for all others. `again` tells whether such an answer may be another one soon.
        """
        deadline = self.time.now() + PATIENCE_S
        for failures, pause in enumerate(pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S, self.time.draw), 1):
            late = self.time.now() + pause >= deadline
            try:
                return self._once(thing, request, expected, service)
            except Said as said:
                if late or again is None or not again(said):
                    raise
            except BackendError as error:
                if not error.transient or late:
                    raise
                if failures >= TELL_AFTER:
                    self.notice.tell(error)
            self.time.sleep(pause)
        raise AssertionError("there is always another pause")

    def _once(self, thing: str, request: Callable[[], T], expected: Collection[str], service: str) -> T:
        with aws.plainly(service, thing):
            try:
                return request()
            except self.ec2.exceptions.ClientError as error:
                code, plain = code_of(error), explain(error, service, thing)
                usual = plain.transient or isinstance(plain, AccessDenied)
                if code in expected or (EVERY in expected and not usual):
                    raise Said(code, str(error.response["Error"].get("Message", ""))) from error
                raise
