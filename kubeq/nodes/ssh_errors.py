"""What the SSH library raises, as errors of ours: a sentence that names the host, and what to do about it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import paramiko

from kubeq.errors import AccessDenied, BackendError
from kubeq.nodes.ssh_login import Login


def explained(error: Exception, login: Login) -> BackendError:
    """Why nobody could be logged in."""
    match error:
        case BackendError():
            return error
        case paramiko.BadHostKeyException():
            return AccessDenied(
                f"the host key of {login} has changed: it may be another machine",
                hint=f"if it was set up anew: ssh-keygen -R {_known_as(login)}, then log in to it once",
            )
        case paramiko.PasswordRequiredException():
            return AccessDenied(
                f"the key for {login} is encrypted and no ssh-agent has it", hint="ssh-add its file, then try again"
            )
        case paramiko.AuthenticationException():
            tried = ", ".join(str(key) for key in login.keys) or "those of the ssh-agent and of ~/.ssh"
            return AccessDenied(
                f"{login} accepts none of our keys ({tried})",
                hint=f"name one with --ssh-identity, or make `ssh {login}` work without a password",
            )
        case paramiko.SSHException() if "private key file" in str(error):
            keys = ", ".join(str(key) for key in login.keys)
            return AccessDenied(
                f"{login} cannot be logged in to with {keys}: {error}", hint="name the private key, not the .pub file"
            )
        case socket.gaierror():
            return BackendError(f"there is no host {login.address!r}: {error.strerror}", hint="check its name")
        case TimeoutError():
            return BackendError(f"{login} did not answer within {login.timeout_s:g} s", transient=True)
        case paramiko.ssh_exception.NoValidConnectionsError():
            reason = "; ".join(sorted({getattr(each, "strerror", None) or str(each) for each in error.errors.values()}))
            return BackendError(f"{login} cannot be reached: {reason}", transient=True)
        case paramiko.SSHException() if "banner" in str(error):
            return BackendError(f"{login} takes connections and says nothing, as no SSH server does", transient=True)
        case _:
            return BackendError(f"{login} cannot be logged in to: {error or type(error).__name__}", transient=True)


@contextmanager
def broken(login: Login) -> Iterator[None]:
    """A connection that breaks, as our error."""
    try:
        yield
    except TimeoutError as error:
        raise BackendError(f"{login} went silent", transient=True) from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        reason = str(error) or type(error).__name__
        raise BackendError(f"the connection to {login} broke: {reason}", transient=True) from error


def _known_as(login: Login) -> str:
    return login.address if login.port == 22 else f"'[{login.address}]:{login.port}'"
