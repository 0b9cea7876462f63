"""Google Cloud as this process meets it: as whom it speaks, in which project, and what Google's errors mean to a user.

Used by the modules named after Google's services, which hand none of Google's types or exceptions on. No service is
spoken to from here: that is theirs.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from kubeq.errors import AccessDenied, BackendError
from kubeq.extras import extra

with extra("gcp"):
    import google.auth
    import requests
    import urllib3
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from google.auth.credentials import Credentials

# google.auth warns on stderr about every user of `gcloud auth application-default login` without a quota project.
# Neither Cloud Storage nor Datastore needs one.
warnings.filterwarnings("ignore", message="Your application has authenticated using end user credentials")

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
"""What a token may be used for; what it is allowed to do is IAM's to say."""
LOG_IN = "gcloud auth application-default login"
_PERMISSION = re.compile(r"\b[a-z]+\.[a-zA-Z]+\.[a-zA-Z]+(?= access|'? denied)")
"""In "x@y does not have storage.objects.create access to the ...", and in "Permission 'storage...' denied on"."""
_LOGGED_OUT = ("invalid_grant", "Reauthentication")
"""In what Google's token service answers when nothing but another login helps."""
_OVER_THE_RATE = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """As whom a client speaks (None: a stand-in, which asks nobody) and in which project, if the environment says."""

    credentials: Credentials | None
    project: str | None


def find_account(emulator: str) -> Account:
    """Google's application default credentials and the project that goes with them.

    `emulator` is the variable by which Google's own library for the service is sent to a stand-in; where it is set no
    credentials are looked for. Raises AccessDenied where there are none. May ask the metadata server of the machine.
    """
    if os.environ.get(emulator):
        return Account(credentials=None, project=os.environ.get("GOOGLE_CLOUD_PROJECT"))
    with google_errors("use Google Cloud", missing="the metadata server"):
        credentials, project = google.auth.default(scopes=SCOPES)
    return Account(credentials=credentials, project=project)


@contextmanager
def google_errors(doing: str, *, missing: str) -> Iterator[None]:
    """A block whose errors of Google's libraries leave it as BackendErrors: "could not `doing`: why".

    `missing` is what does not exist when Google answers "not found": the bucket, the database. An answer that means
    something to the caller (a failed precondition, say) is to be caught inside the block.
    """
    try:
        yield
    except (api.GoogleAPIError, auth.GoogleAuthError, requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise google_error(error, doing, missing=missing) from error


def google_error(error: Exception, doing: str, *, missing: str) -> BackendError:
    """The error to raise for one of Google's libraries."""
    cause = error.cause if isinstance(error, api.RetryError) else error
    if isinstance(cause, auth.TransportError):
        return _unreachable(cause, doing)
    if isinstance(cause, auth.RefreshError):
        return _not_refreshed(cause, doing)
    if isinstance(cause, auth.GoogleAuthError):
        return AccessDenied(
            f"could not {doing}: no Google credentials were found that can be used",
            hint=f"{LOG_IN}, or name a service account's key file in GOOGLE_APPLICATION_CREDENTIALS",
        )
    if isinstance(cause, api.GoogleAPICallError):
        return _refused(cause, doing, missing)
    return _unreachable(cause, doing)


def _unreachable(cause: object, doing: str) -> BackendError:
    return BackendError(
        f"could not {doing}: the connection to Google Cloud failed ({_innermost(cause)})",
        hint="look whether this machine reaches the network, then try again",
        transient=True,
    )


def _not_refreshed(error: auth.RefreshError, doing: str) -> BackendError:
    told = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], Mapping) else {}
    reason = _first_line(str(told.get("error_description") or (error.args[0] if error.args else error)))
    if "Invalid JWT" in reason:
        # "Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values":
        # we made the token this very second, so it is this machine that has another time than Google.
        return AccessDenied(
            f"could not {doing}: Google finds the time in our credentials wrong, so this machine's clock is",
            hint="set the clock, for instance with: timedatectl set-ntp true",
        )
    return _expired(doing, reason, transient=bool(error.retryable))


def _expired(doing: str, reason: str, *, transient: bool = False) -> BackendError:
    return AccessDenied(
        f"could not {doing}: the Google credentials have expired or were withdrawn ({reason})",
        hint=LOG_IN,
        transient=transient,
    )


def _refused(error: api.GoogleAPICallError, doing: str, missing: str) -> BackendError:
    """By the HTTP code, which every error of a call has, also those that came by gRPC."""
    message, reason = _told(error)
    if "Getting metadata from plugin failed" in message:
        # What gRPC makes (as UNAVAILABLE) of credentials that cannot be refreshed, or cannot be for the moment.
        return _expired(doing, message, transient=not any(word in message for word in _LOGGED_OUT))
    if "failed to connect to all addresses" in message:
        return _unreachable(message, doing)  # gRPC's words
    match error.code:
        case 401:
            return _expired(doing, message)
        case 403 if reason not in _OVER_THE_RATE:
            return _forbidden(error, doing, reason, message)
        case 404:
            return BackendError(f"could not {doing}: {missing} does not exist", hint="kubeq setup")
        case 403 | 429:
            return BackendError(f"could not {doing}: Google Cloud asked to slow down ({message})", transient=True)
        case 408 | 499 | 500 | 502 | 503 | 504:
            sentence = f"could not {doing}: Google Cloud did not manage to answer ({error.code}: {message})"
            return BackendError(sentence, transient=True)
        case _:
            status: object = error.code or getattr(error.grpc_status_code, "name", "an unknown error")
            transient = isinstance(error, (api.Aborted, api.Unknown))  # the latter is gRPC's for a broken stream
            return BackendError(f"could not {doing}: Google Cloud answered {status}: {message}", transient=transient)


def _forbidden(error: api.GoogleAPICallError, doing: str, reason: str, message: str) -> BackendError:
    told: Mapping[str, str] = error.metadata or {}
    if reason in ("SERVICE_DISABLED", "accessNotConfigured"):
        service = told.get("service", "that it belongs to")
        return AccessDenied(
            f"could not {doing}: the API {service} is not enabled in the project",
            hint=f"gcloud services enable {told.get('service', 'SERVICE')}",
        )
    named = _PERMISSION.search(message)
    permission = told.get("permission") or (named.group() if named else None)
    why = f"the permission {permission} is not granted" if permission else message
    return AccessDenied(f"could not {doing}: {why}", hint="kubeq setup --dry-run shows the permissions that are needed")


def _told(error: api.GoogleAPICallError) -> tuple[str, str]:
    """What Google said, and its one word for it: of the newer ErrorInfo or the older list of errors; else empty.

    Of an upload that was refused the client keeps the whole answer; of others, what stands in it.
    """
    message, errors = str(error.message), error.errors
    if isinstance(error.response, requests.Response):
        with suppress(ValueError, LookupError, TypeError):
            answer = error.response.json()["error"]
            message, errors = str(answer["message"]), answer.get("errors", ())
    reason = error.reason or next((entry.get("reason") for entry in errors if isinstance(entry, Mapping)), None)
    # Without the "GET https://...: " that the library for HTTP puts before it.
    return _first_line(re.sub(r"\A[A-Z]+ https?://\S+: ", "", message)), str(reason or "")


def _innermost(cause: object) -> str:
    """What happened on the network, without the wrapping that each library below puts round it."""
    while True:
        wrapped = (getattr(cause, "reason", None), *getattr(cause, "args", ()))
        inner = next((part for part in wrapped if isinstance(part, Exception)), None)
        if inner is None:
            return _first_line(str(cause)) or type(cause).__name__
        cause = inner


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
