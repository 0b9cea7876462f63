"""What the operating system's errors about files are called."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kubeq.errors import AccessDenied, BackendError
from kubeq.store.disk import disk_error, disk_errors, make_directory


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_refusal_is_access_denied_with_a_hint(number: int) -> None:
    error = disk_error(OSError(number, os.strerror(number)), "write", b"/some/place")
    assert type(error) is AccessDenied
    assert str(error) == f"could not write /some/place: {os.strerror(number)}"
    assert not error.transient
    assert error.hint is not None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_permanent_and_says_how_much_was_wanted(number: int) -> None:
    error = disk_error(OSError(number, "full"), "write", Path("/some/place"), 12345)
    assert str(error) == "could not write /some/place: full (12345 bytes were wanted)"
    assert not error.transient
    assert error.hint is not None


@pytest.mark.parametrize(
    ("number", "transient"),
    [(errno.ESTALE, True), (errno.EMFILE, True), (errno.ETIMEDOUT, True), (errno.EIO, False), (errno.ENOTDIR, False)],
)
def test_only_what_may_pass_by_itself_is_transient(number: int, transient: bool) -> None:
    with pytest.raises(BackendError, match="/some/place") as caught, disk_errors("read", b"/some/place"):
        raise OSError(number, os.strerror(number))
    assert caught.value.transient is transient


def test_directories_are_made_with_their_parents_and_may_be_there(tmp_path: Path) -> None:
    for _ in range(2):
        make_directory(os.fsencode(tmp_path / "a" / "b" / "c"))
    assert (tmp_path / "a" / "b" / "c").is_dir()
