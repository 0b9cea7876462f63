"""Every error that kubeq raises on purpose.

A class exists when somebody catches it or when it has an exit code of its own. The message is one sentence:
what could not be done, to which thing, and why. The hint is the next command to type, or the thing to change.
"""

from __future__ import annotations

from typing import ClassVar


class KubeqError(Exception):
    """The root: anything below it is a message for the user, anything else is a bug."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(KubeqError):
    """The user asked for something that makes no sense; nothing was read, sent or stored."""

    exit_code = 2


class TasksFailed(KubeqError):
    """The job ended with failed or cancelled tasks."""

    exit_code = 3


class NotFound(KubeqError):
    """No job, task, node or file of that name."""

    exit_code = 4


class ObjectNotFound(NotFound):
    """The object store holds nothing under that key."""


class Conflict(KubeqError):
    """Something stands in the way: a name that is taken, a job that still runs."""

    exit_code = 5


class IllegalTransition(Conflict):
    """A task in that state cannot make that change."""


class LeaseLost(IllegalTransition):
    """The attempt is no longer the task's current one; whatever it did is not the task's result."""


class BackendError(KubeqError):
    """A store, queue, provider or runtime said no, or said nothing.

    `transient` is true when the same request may succeed if it is simply made again. `waited` is true when the request
    has already been given all the time that anybody ought to wait for it: to make it again is for the user to decide.
    """

    exit_code = 6

    def __init__(self, message: str, *, hint: str | None = None, transient: bool = False, waited: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.transient = transient
        self.waited = waited


class AccessDenied(BackendError):
    """The backend knows us and refuses, or does not know us."""


class ImageUnavailable(BackendError):
    """The container image cannot be had: it does not exist, may not be pulled, or is for another machine."""


class VersionMismatch(BackendError):
    """A record was written by a newer kubeq than this one; it was left as it is."""


class IntegrityError(KubeqError):
    """Bytes are not what their digest says."""

    exit_code = 7


class Interrupted(KubeqError):
    """The user pressed Ctrl-C, or the process was asked to end."""

    exit_code = 130
