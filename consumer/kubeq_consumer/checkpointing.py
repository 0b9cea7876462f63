"""The directory that survives from one attempt of a task to the next, on whatever node: restored before, saved after.

Only an attempt that was given back or failed leaves one; what a task that succeeded had left is removed. Saving is for
the task's convenience: where it cannot be done, the attempt ends as it would have, and the next one begins with what an
earlier one has left. `docs/submit.md` says what a task may count on.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from kubeq.core.clock import Clock
from kubeq.core.model import TaskId
from kubeq.errors import BackendError, IntegrityError, KubeqError, ObjectNotFound
from kubeq.store.checkpoints import Checkpoint, Checkpoints
from kubeq_consumer.packing import pack, unpack

log = logging.getLogger(__name__)
_LOOK_S = 0.2


class Keeping:
    """The directory of one attempt: `folder`, which is below the attempt's own and the only one a command sees.

    An agent that has been told to leave at once (`leaving`) goes on saving for so many seconds.
    """

    def __init__(
        self, checkpoints: Checkpoints, clock: Clock, leaving: threading.Event, leaving_s: float, place: Path
    ) -> None:
        self._checkpoints = checkpoints
        self._clock = clock
        self._leaving = leaving
        self._leaving_s = leaving_s
        self.folder = place / "checkpoint"
        self._archive = place / "checkpoint.tar"
        self._standing: list[Checkpoint] = []
        self.saving = False
        """Whether it is being saved just now, which is worth waiting for."""

    def restore(self, task: TaskId, attempt: int, *, open_to_all: bool) -> None:
        """Have the directory, with what the last attempt has left; `open_to_all`: whoever the command runs as.

        A first attempt asks for nothing. Raises BackendError, OSError.
        """
        self.folder.mkdir(mode=0o700)
        if attempt > 1:
            self._standing = self._checkpoints.of(task)
        if self._standing:
            newest = self._standing[-1]
            try:
                self._checkpoints.read(newest, self._archive)
                unpack(self._archive, self.folder)
                log.info("attempt %d of task %s goes on from what attempt %d left", attempt, task, newest.attempt)
            except (ObjectNotFound, IntegrityError) as error:
                log.warning("attempt %d of task %s begins anew: %s", attempt, task, error)
            finally:
                self._archive.unlink(missing_ok=True)
        if open_to_all:
            for path in (self.folder, *self.folder.rglob("*")):
                if not path.is_symlink():
                    path.chmod(path.stat().st_mode | (0o777 if path.is_dir() else 0o666))

    def save(self, task: TaskId, attempt: int) -> None:
        """Store what the command has left there, if anything. An agent that leaves waits for that for a while only."""
        if not self.folder.is_dir() or not any(self.folder.iterdir()):
            return
        self.saving = True
        work = threading.Thread(target=self._save, args=(task, attempt), name=f"checkpoint {task}", daemon=True)
        work.start()
        left_at: float | None = None
        while work.is_alive():
            work.join(_LOOK_S)
            if not self._leaving.is_set():
                continue
            now = self._clock.monotonic()
            left_at = now if left_at is None else left_at
            if now - left_at > self._leaving_s:
                log.warning("the checkpoint of task %s is not stored in time", task)
                break
        self.saving = False

    def drop(self) -> None:
        """Remove all that was left: nobody needs it any more."""
        try:
            self._checkpoints.delete(self._standing)
        except BackendError as error:
            log.warning("%d checkpoints could not be removed; kubeq clean does: %s", len(self._standing), error)

    def _save(self, task: TaskId, attempt: int) -> None:
        try:
            if not pack(self.folder, self._archive):
                return
            saved = self._checkpoints.save(task, attempt, self._archive)
            older, self._standing = self._standing, [saved]
            self._checkpoints.delete([one for one in older if one.key != saved.key])
        except (KubeqError, OSError) as error:
            log.warning("the checkpoint of attempt %d of task %s cannot be stored: %s", attempt, task, error)
