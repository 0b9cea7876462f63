"""Hooks: what a submission wants to be run with the job's report when the job has ended, once for each end.

They are kept beside the journal, on the machine that submitted the job: the first command there that sees the end runs
them. A mark is made durable before, so that none is run twice; a job that was run again ends again. What fails here
changes nothing about the job.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any, BinaryIO

from kubeq.actions.session import Session
from kubeq.core.hooks import Hook, HookKind, parse_hook
from kubeq.core.model import Job, JobId
from kubeq.errors import BackendError, KubeqError
from kubeq.store.disk import disk_errors, sync_directory

SCHEMA = 1
LIMIT_S = 300.0
"""How long one of them may run: the command that waits for it has nothing else to do."""
SHOWN_LINES = 20
ARGUMENT = "KUBEQ_HOOK"
"""What the hook's process is to do; not on its command line, which everybody can read."""
_SENDMAIL_PATH = "/usr/sbin:/usr/lib"
"""Where sendmail is found when it is not on the path (hier(7) and the LSB's own place)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Hooks that are to be run now, and where."""

    hooks: tuple[Hook, ...]
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class HookRun:
    """What became of a hook: the last lines that it printed, and why it failed, if it did."""

    hook: Hook
    lines: tuple[str, ...]
    error: str | None


def keep_hooks(session: Session, job: JobId) -> None:
    """Have the hooks of this configuration on record for the job, in place of others; durable on return."""
    path = _path(session, job)
    head = {"schema": SCHEMA, "hooks": list(session.config.notify), "folder": str(session.config.place.base)}
    with disk_errors("write", os.fsencode(path)):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(json.dumps(head).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(os.fsencode(path.parent))


def has_hooks(session: Session, job: JobId) -> bool:
    """Whether any are on record here for the job."""
    return _path(session, job).exists()


def take_hooks(session: Session, job: Job) -> Kept | None:
    """The hooks to run for this end of the job, which nobody else is given from now on; None if there are none.

    Raises BackendError for a record that cannot be read or written: then none is run.
    """
    if job.closed_at is None:
        return None
    path = _path(session, job.id)
    with disk_errors("read", os.fsencode(path)):
        try:
            file = path.open("r+b")
        except FileNotFoundError:
            return None
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            return _taken(file, path, job.closed_at)


def _taken(file: BinaryIO, path: Path, ended_at: float) -> Kept | None:
    head, *marks = file.read().splitlines()
    try:
        document = json.loads(head)
        kept = Kept(hooks=tuple(map(parse_hook, document["hooks"])), folder=Path(document["folder"]))
        told = {float(mark) for mark in marks if mark}
    except (ValueError, KeyError, TypeError, KubeqError) as error:
        raise BackendError(f"the record of hooks {path} cannot be read: {error}") from error
    if ended_at in told:
        return None
    file.write(f"{ended_at!r}\n".encode())
    file.flush()
    os.fsync(file.fileno())
    return kept


def drop_hooks(session: Session, job: JobId) -> None:
    """Forget the hooks of a job; none is no error."""
    for path in (_path(session, job), log_path(session, job)):
        with disk_errors("remove", os.fsencode(path)):
            path.unlink(missing_ok=True)


def log_path(session: Session, job: JobId) -> Path:
    """Where what waits for the job's end in the submitter's place writes what it says."""
    return _path(session, job).with_suffix(".log")


def run_hook(hook: Hook, folder: Path, report: Mapping[str, Any], text: str, *, limit_s: float = LIMIT_S) -> HookRun:
    """Run it to its end in a process of its own, with the report on its stdin (a mail: the text).

    After `limit_s` it is stopped.
    """
    environment = {
        **os.environ,
        "KUBEQ_JOB": str(report["job"]),
        "KUBEQ_JOB_NAME": str(report["name"]),
        "KUBEQ_JOB_STATUS": str(report["status"]),
        ARGUMENT: hook.argument,
    }
    content = json.dumps(report, ensure_ascii=False).encode()
    try:
        if hook.kind is HookKind.MAIL:
            content = mail_of(hook, report, text)
        words = _words(hook)
    except BackendError as error:
        return HookRun(hook=hook, lines=(), error=error.message)
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as given:
        given.write(content)
        given.seek(0)
        try:
            process = subprocess.Popen(
                words,
                stdin=given,
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=folder if folder.is_dir() else "/",
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return HookRun(hook=hook, lines=(), error=f"it cannot be started: {error}")
        why = _ended(process, limit_s)
        said.seek(0)
        lines = said.read().decode(errors="replace").splitlines()[-SHOWN_LINES:]
    return HookRun(hook=hook, lines=tuple(lines), error=why)


def mail_of(hook: Hook, report: Mapping[str, Any], text: str) -> bytes:
    """The report as a mail."""
    sender, *others = hook.argument.split()
    mail = EmailMessage()
    mail["From"], mail["To"] = sender, ", ".join(others)
    mail["Subject"] = f"kubeq: {report['name']} {report['status']}"
    mail.set_content(text)
    return mail.as_bytes()


def _words(hook: Hook) -> Sequence[str]:
    """The command of the hook's process. Raises BackendError."""
    match hook.kind:
        case HookKind.SHELL:
            return ["/bin/sh", "-c", hook.argument]
        case HookKind.MAIL:
            program = shutil.which("sendmail") or shutil.which("sendmail", path=_SENDMAIL_PATH)
            if program is None:
                raise BackendError("no sendmail program is on this machine, so no mail can be sent")
            return [program, "-i", "-f", hook.argument.split()[0], "--", *hook.argument.split()[1:]]
        case HookKind.HTTP | HookKind.PYTHON:
            return [sys.executable, "-P", "-m", "kubeq.actions.hook_process", hook.kind]


def _ended(process: subprocess.Popen[bytes], limit_s: float) -> str | None:
    """Why the process failed, once it has ended; None if it did not."""
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        code = None
    except BaseException:
        _kill(process)
        raise
    if code is None:
        _kill(process)
        return f"it was stopped after {limit_s:g} s"
    if code == 0:
        return None
    return f"exit code {code}" if code > 0 else f"signal {-code}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _path(session: Session, job: JobId) -> Path:
    return session.config.state_dir / "hooks" / f"{job}.jsonl"
