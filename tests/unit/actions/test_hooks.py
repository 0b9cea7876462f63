"""Hooks run once for each end of a job, in processes of their own, and their failure is told."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from kubeq.actions import hooks
from kubeq.actions.hooks import HookRun, drop_hooks, has_hooks, keep_hooks, run_hook, take_hooks
from kubeq.actions.session import Session
from kubeq.config import with_flags
from kubeq.core.hooks import parse_hook
from kubeq.core.model import Job
from kubeq.errors import BackendError, UsageError
from tests.jobs import Work

REPORT = {"schema": 1, "job": "j1", "name": "démo", "status": "failed", "tasks": {"failed": 2}}


def wanting(session: Session, *texts: str) -> Session:
    session.config = with_flags(session.config, {"notify": texts})
    return session


def run(text: str, folder: Path) -> HookRun:
    return run_hook(parse_hook(text), folder, REPORT, "2 tasks failed\n")


@pytest.fixture
def ended(session: Session, work: Work) -> Job:
    return replace(work.submit(), closed_at=17.25)


# -- once -------------------------------------------------------------------------------------------------------------


def test_hooks_are_given_out_once_for_each_end_of_the_job(session: Session, ended: Job) -> None:
    keep_hooks(wanting(session, "sh: true", "mail: a@b c@d"), ended.id)
    kept = take_hooks(session, ended)
    assert kept is not None
    assert [hook.title for hook in kept.hooks] == ["sh: true", "mail: a@b c@d"]
    assert take_hooks(session, ended) is None
    assert take_hooks(session, replace(ended, closed_at=None)) is None
    again = replace(ended, closed_at=99.5)
    assert take_hooks(session, again) is not None
    assert take_hooks(session, again) is None
    assert has_hooks(session, ended.id)
    drop_hooks(session, ended.id)
    assert not has_hooks(session, ended.id) and take_hooks(session, replace(ended, closed_at=100.0)) is None


def test_of_many_commands_that_see_the_end_one_gets_them(session: Session, ended: Job) -> None:
    keep_hooks(wanting(session, "sh: true"), ended.id)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: take_hooks(session, ended), range(16)))
    assert sum(answer is not None for answer in answers) == 1


def test_nobody_else_can_read_them_and_a_record_that_was_spoilt_runs_nothing(session: Session, ended: Job) -> None:
    keep_hooks(wanting(session, "http: https://chat.example.org/secret"), ended.id)
    (path,) = (session.config.state_dir / "hooks").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("[]\n")
    with pytest.raises(BackendError, match="cannot be read"):
        take_hooks(session, ended)


def test_a_file_is_meant_wherever_the_hook_is_run_and_code_is_looked_at_before(
    session: Session, tmp_path: Path
) -> None:
    (tmp_path / "told.py").write_text("print(report)")
    assert wanting(session, "py: told.py").config.notify == (f"py: {tmp_path}/told.py",)
    assert wanting(session, "py: print(report)").config.notify == ("py: print(report)",)
    for wrong in ("py: other.py", "py: print(", "sh:", "something"):
        with pytest.raises(UsageError, match="--notify"):
            wanting(session, wrong)


# -- running ----------------------------------------------------------------------------------------------------------


def test_a_shell_line_gets_the_report_on_stdin_and_runs_where_the_job_was_submitted(tmp_path: Path) -> None:
    done = run("sh: cat > got; echo $KUBEQ_JOB $KUBEQ_JOB_NAME $KUBEQ_JOB_STATUS; pwd; echo more >&2", tmp_path)
    assert done.error is None
    assert done.lines == ("j1 démo failed", str(tmp_path), "more")
    assert json.loads((tmp_path / "got").read_text()) == REPORT


def test_python_finds_the_report_under_that_name(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text("import beside\nif __name__ == '__main__': print(beside.X, report['tasks'])")
    (tmp_path / "beside.py").write_text("X = 1")
    assert run(f"py: {tmp_path}/told.py", tmp_path).lines == ("1 {'failed': 2}",)
    assert run("py: print(report['name'])", tmp_path).lines == ("démo",)
    failed = run("py: raise ValueError('no such channel')", tmp_path)
    assert failed.error == "exit code 1" and failed.lines[-1] == "ValueError: no such channel"


def test_files_of_the_users_folder_are_imported_by_nobody_but_the_hook(tmp_path: Path) -> None:
    for name in ("json", "runpy", "urllib", "kubeq"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not the one that was meant')")
    (tmp_path / "beside.py").write_text("X = 1")
    assert run("py: import beside; print(beside.X, report['name'])", tmp_path).lines == ("1 démo",)


def test_a_failure_is_told_and_a_hook_that_hangs_is_ended(tmp_path: Path) -> None:
    assert run("sh: exit 7", tmp_path).error == "exit code 7"
    assert run("sh: kill -9 $$", tmp_path).error == "signal 9"
    hangs = parse_hook("sh: sleep 60 & wait")
    assert run_hook(hangs, tmp_path, REPORT, "", limit_s=0.2).error == "it was stopped after 0.2 s"


def test_a_mail_goes_through_sendmail_with_the_report_as_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin/sendmail"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/words; cat > {tmp_path}/mail\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert run("mail: ada-l+x@example.org bob@example.org eve@example.org", tmp_path).error is None
    words = "-i -f ada-l+x@example.org -- bob@example.org eve@example.org"
    assert (tmp_path / "words").read_text().strip() == words
    mail = message_from_bytes((tmp_path / "mail").read_bytes(), policy=default)
    assert (mail["From"], mail["To"]) == ("ada-l+x@example.org", "bob@example.org, eve@example.org")
    assert (mail["Subject"], mail.get_content()) == ("kubeq: démo failed", "2 tasks failed\n")


def test_a_mail_needs_a_sendmail_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(hooks, "_SENDMAIL_PATH", str(tmp_path))
    assert run("mail: a@b c@d", tmp_path).error == "no sendmail program is on this machine, so no mail can be sent"


class Server(HTTPServer):
    """Remembers what was posted to it, and answers 500 at /broken."""

    got: list[tuple[str, str | None, Any]]


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            one.got.append((self.path, self.headers["Content-Type"], json.loads(content)))
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    one = Server(("127.0.0.1", 0), Handler)
    one.got = []
    Thread(target=one.serve_forever, daemon=True).start()
    yield one
    one.shutdown()
    one.server_close()


def test_a_url_gets_the_report_as_json(server: Server, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{server.server_port}"
    assert run(f"http: {url}/hook?key=1", tmp_path).error is None
    assert server.got == [("/hook?key=1", "application/json", REPORT)]
    broken = run(f"{url}/broken", tmp_path)
    assert (broken.error, broken.lines) == ("exit code 1", ("the server answered 500 Internal Server Error",))
