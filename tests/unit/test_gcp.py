"""What each error of Google's libraries is to a user: one sentence with its cause, and what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from http.client import RemoteDisconnected
from pathlib import Path

import pytest
import requests
import urllib3
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from kubeq.errors import AccessDenied, BackendError
from kubeq.gcp import find_account, google_error, google_errors

ROOT = Path(__file__).parents[2]
SKEWED = (
    "invalid_grant: Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
    "Check your iat and exp values in the JWT claim."
)
UNHAPPY_PLUGIN = "Getting metadata from plugin failed with error: ('invalid_grant: Bad Request', {})"


def told(error: Exception) -> BackendError:
    return google_error(error, "store x", missing="the bucket b")


@pytest.mark.parametrize(
    ("error", "sentence", "hint"),
    [
        (
            auth.DefaultCredentialsError("Your default credentials were not found."),
            "no Google credentials",
            "gcloud auth",
        ),
        (auth.MalformedError("no key"), "no Google credentials were found that can be used", "GOOGLE_APPLICATION"),
        (
            auth.RefreshError("invalid_grant: Bad Request", {}),
            r"expired or were withdrawn \(invalid_grant",
            "gcloud auth",
        ),
        (auth.RefreshError(SKEWED, {"error": "invalid_grant"}), "this machine's clock is", "set the clock"),
        (
            auth.RefreshError("invalid_grant", {"error_description": SKEWED.partition(": ")[2]}),
            "this machine's clock is",
            "set the clock",
        ),
        (api.Unauthorized("POST https://h/b?x=1: Invalid Credentials"), r"withdrawn \(Invalid Cred", "gcloud auth"),
        (api.ServiceUnavailable(UNHAPPY_PLUGIN), "expired or were withdrawn", "gcloud auth"),
    ],
)
def test_credentials_that_cannot_be_used_are_access_denied(error: Exception, sentence: str, hint: str) -> None:
    answer = told(error)
    assert isinstance(answer, AccessDenied)
    assert not answer.transient
    assert answer.message.startswith("could not store x: ")
    with pytest.raises(AccessDenied, match=sentence):
        raise answer
    assert hint in str(answer.hint)


@pytest.mark.parametrize(
    "error",
    [
        api.Forbidden(
            "POST https://h/o: robot@p.iam.gserviceaccount.com does not have storage.objects.create access to the "
            "Google Cloud Storage object. Permission 'storage.objects.create' denied on resource (or it may not exist)."
        ),
        api.PermissionDenied("Missing", error_info={"metadata": {"permission": "storage.objects.create"}}),
    ],
)
def test_a_refusal_names_the_permission(error: Exception) -> None:
    answer = told(error)
    assert isinstance(answer, AccessDenied)
    assert answer.message == "could not store x: the permission storage.objects.create is not granted"
    assert answer.hint == "kubeq setup --dry-run shows the permissions that are needed"


def test_a_refusal_without_a_permission_says_what_google_said() -> None:
    answer = told(api.Forbidden("GET https://h/o: The billing account for the owning project is disabled\nmore"))
    assert answer.message == "could not store x: The billing account for the owning project is disabled"


def test_an_api_that_is_not_enabled_has_its_own_command() -> None:
    metadata = {"reason": "SERVICE_DISABLED", "metadata": {"service": "datastore.googleapis.com"}}
    answer = told(api.PermissionDenied("Cloud Datastore API has not been used in project 1", error_info=metadata))
    assert answer.message == "could not store x: the API datastore.googleapis.com is not enabled in the project"
    assert answer.hint == "gcloud services enable datastore.googleapis.com"


def test_what_is_missing_is_named_and_made_by_setup() -> None:
    answer = told(api.NotFound("POST https://h/o: The specified bucket does not exist."))
    assert answer.message == "could not store x: the bucket b does not exist"
    assert answer.hint == "kubeq setup"
    assert not answer.transient


@pytest.mark.parametrize(
    "error",
    [
        api.TooManyRequests("POST https://h/o: The rate of change requests to the object x exceeds the limit"),
        api.ResourceExhausted("Quota exceeded"),
        api.Forbidden("POST https://h/o: Rate Limit Exceeded", errors=[{"reason": "rateLimitExceeded"}]),
    ],
)
def test_throttling_is_worth_another_try(error: Exception) -> None:
    answer = told(error)
    assert answer.message.startswith("could not store x: Google Cloud asked to slow down (")
    assert answer.transient
    assert not isinstance(answer, AccessDenied)


@pytest.mark.parametrize(
    "error",
    [
        api.InternalServerError("GET https://h/o: Backend Error"),
        api.BadGateway("x"),
        api.ServiceUnavailable("x"),
        api.DeadlineExceeded("x"),
        api.from_http_status(408, "Request Timeout"),
        api.RetryError("Timeout of 60s exceeded", api.GatewayTimeout("x")),
        api.Aborted("too much contention on these datastore entities"),
        api.Unknown("Stream removed"),
        requests.ConnectionError(urllib3.exceptions.ProtocolError("Connection aborted.", OSError(104, "reset"))),
        requests.ReadTimeout("Read timed out."),
        urllib3.exceptions.IncompleteRead(1, 2),
        auth.TransportError(requests.ConnectionError("no route")),
        auth.RefreshError("internal_failure", {}, retryable=True),
        api.RetryError("Timeout of 60s exceeded", None),
    ],
)
def test_what_may_pass_is_worth_another_try(error: Exception) -> None:
    assert told(error).transient


def test_a_connection_that_fails_says_why_without_the_wrapping() -> None:
    with pytest.raises(requests.ConnectionError) as caught:
        requests.get("http://127.0.0.1:1/secret-path?token=1", timeout=5)
    answer = told(auth.TransportError(caught.value))
    assert "Connection refused" in answer.message
    assert "secret-path" not in answer.message


def test_a_server_that_grpc_does_not_reach_is_told_as_such() -> None:
    said = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9: Connection refused"
    answer = told(api.ServiceUnavailable(said))
    assert answer.message == f"could not store x: the connection to Google Cloud failed ({said})"
    assert "network" in (answer.hint or "")
    assert answer.transient


def test_credentials_that_cannot_be_refreshed_for_the_moment_are_worth_another_try() -> None:
    plugin = "Getting metadata from plugin failed with error: "
    assert told(api.ServiceUnavailable(plugin + "HTTPConnectionPool(host='metadata'): Read timed out.")).transient
    assert not told(api.ServiceUnavailable(UNHAPPY_PLUGIN)).transient


def test_a_connection_that_breaks_says_so_in_the_words_of_the_innermost_library() -> None:
    broken = urllib3.exceptions.ProtocolError("Connection aborted.", RemoteDisconnected("Remote end closed connection"))
    assert told(requests.ConnectionError(broken)).message == (
        "could not store x: the connection to Google Cloud failed (Remote end closed connection)"
    )


def test_an_upload_that_was_refused_says_what_stands_in_the_answer() -> None:
    response = requests.Response()
    response.status_code = 403
    error = {"message": "Not\nso fast", "errors": [{"reason": "rateLimitExceeded"}]}
    response._content = json.dumps({"error": error}, indent=2).encode()
    answer = told(api.Forbidden(f"POST https://h/o: {response.text}: ('failed', 403)", response=response))
    assert answer.message == "could not store x: Google Cloud asked to slow down (Not)"
    response._content = b"<html>oops</html>"
    assert told(api.BadRequest("POST https://h/o: oops", response=response)).message.endswith("answered 400: oops")


def test_anything_else_says_what_google_said_and_is_not_tried_again() -> None:
    answer = told(api.BadRequest("PUT https://h/o: Invalid argument."))
    assert answer.message == "could not store x: Google Cloud answered 400: Invalid argument."
    assert not answer.transient
    assert told(api.Unknown("?")).message == "could not store x: Google Cloud answered UNKNOWN: ?"


def test_the_context_translates_googles_errors_and_nothing_else() -> None:
    reading = partial(google_errors, "read y", missing="the database d")
    with pytest.raises(BackendError, match="could not read y: the database d does not exist"), reading():
        raise api.NotFound("gone")
    with pytest.raises(ZeroDivisionError), reading():
        raise ZeroDivisionError
    with pytest.raises(OSError, match="source"), reading():
        raise OSError("the source")


def test_a_stand_in_is_spoken_to_as_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    account = find_account("SOME_EMULATOR_HOST")
    assert (account.credentials, account.project) == (None, "p")


def test_an_environment_without_credentials_says_how_to_get_some(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("SOME_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(AccessDenied, match="no Google credentials were found") as caught:
        find_account("SOME_EMULATOR_HOST")
    assert "gcloud auth application-default login" in str(caught.value.hint)


def test_a_key_file_that_is_none_is_no_bug(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text("{}")
    monkeypatch.delenv("SOME_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    with pytest.raises(AccessDenied, match="no Google credentials were found that can be used"):
        find_account("SOME_EMULATOR_HOST")


def test_without_the_sdk_the_sentence_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['google'] = None\n"
        "from kubeq.errors import BackendError\n"
        "try:\n    import kubeq.gcp\nexcept BackendError as error:\n    print(error.message, '|', error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ("the Python package google.auth is needed and is not installed | pip install 'kubeq[gcp]'\n")
