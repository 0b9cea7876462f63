"""Clients of AWS: what is counted, what is retried (nothing), and what each error says. No network: answers are made up
in the SDK's own hook, which is given every request right before it would be sent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError, ResponseStreamingError, SSLError

from kubeq import aws
from kubeq.errors import AccessDenied, BackendError
from kubeq.metering import Meter

ROOT = Path(__file__).parents[2]
THING = "the table t in eu-west-1"


class _Raw:
    """The body of a made-up answer, as the SDK reads it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content


def answer(status: int, code: str = "", message: str = "because", **headers: str) -> AWSResponse:
    """An answer in the JSON that DynamoDB speaks."""
    body = f'{{"__type": "com.amazonaws.dynamodb.v20120810#{code}", "message": "{message}"}}'.encode()
    return AWSResponse("https://dynamodb", status, headers, _Raw(body))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


def failing(reply: Callable[[], AWSResponse]) -> BackendError:
    """What the caller gets when a put is answered so."""
    meter = Meter()
    client = aws.client("dynamodb", "eu-west-1", meter)
    client.meta.events.register("before-send.dynamodb", lambda **_: reply())
    with pytest.raises(BackendError) as raised, aws.plainly("dynamodb", THING):
        client.put_item(TableName="t", Item={"p": {"S": "x"}})
    assert meter.read() == {"PutItem": 1}, "the SDK retried"
    return raised.value


def test_a_request_is_counted_by_its_name_once_an_attempt() -> None:
    meter = Meter()
    client = aws.client("dynamodb", "eu-west-1", meter)
    client.meta.events.register("before-send.dynamodb.ListTables", lambda **_: answer(200))
    for _ in range(3):
        client.list_tables()
    assert meter.read() == {"ListTables": 3}


def test_clients_of_one_process_share_their_session() -> None:
    first, second = (aws.client("sts", "eu-west-1", Meter()) for _ in range(2))
    assert first is not second
    assert first._request_signer._credentials is second._request_signer._credentials  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("status", "code", "kind", "transient", "words", "hint"),
    [
        (400, "AccessDeniedException", AccessDenied, False, "does not permit dynamodb:PutItem: because", "allow"),
        (400, "UnrecognizedClientException", AccessDenied, False, "does not know the access key", "AWS_PROFILE"),
        (400, "InvalidSignatureException", AccessDenied, False, "the secret key that belongs", "AWS_PROFILE"),
        (400, "ExpiredTokenException", AccessDenied, False, "the AWS credentials have expired", "log in again"),
        (400, "ResourceNotFoundException", BackendError, False, "does not exist", "kubeq setup"),
        (400, "ThrottlingException", BackendError, True, "is throttled by AWS", "nothing is lost"),
        (400, "ProvisionedThroughputExceededException", BackendError, True, "is throttled by AWS", "nothing is lost"),
        (400, "RequestLimitExceeded", BackendError, True, "is throttled by AWS", "nothing is lost"),
        (400, "TransactionConflictException", BackendError, True, "TransactionConflictException: because", "repeat"),
        (500, "InternalServerError", BackendError, True, "InternalServerError: because", "repeat it"),
        (503, "SomethingNew", BackendError, True, "SomethingNew: because", "repeat it"),
        (400, "ValidationException", BackendError, False, "refused PutItem: ValidationException: because", ""),
        (400, "OptInRequired", AccessDenied, False, "has not enabled it", ""),
    ],
)
def test_each_answer_has_its_sentence(
    status: int, code: str, kind: type[BackendError], transient: bool, words: str, hint: str
) -> None:
    error = failing(lambda: answer(status, code))
    assert type(error) is kind
    assert error.transient is transient
    assert THING in error.message and words in error.message
    assert hint in (error.hint or "")


@pytest.mark.parametrize(("skew_s", "side"), [(600, "behind"), (-600, "ahead of")])
def test_a_signature_refused_under_a_wrong_clock_is_the_clocks_fault(skew_s: int, side: str) -> None:
    date = formatdate(time.time() + skew_s, usegmt=True)
    error = failing(lambda: answer(400, "InvalidSignatureException", date=date))
    assert isinstance(error, AccessDenied)
    assert f"seconds {side} that of AWS" in error.message
    assert "timedatectl" in (error.hint or "")


def test_a_bucket_elsewhere_is_told_with_its_region() -> None:
    client = aws.client("s3", "eu-west-1", Meter())
    body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>us-east-2</Region></Error>"
    client.meta.events.register("before-send.s3", lambda **_: AWSResponse("https://b", 400, {}, _Raw(body)))  # type: ignore[arg-type]
    moved = pytest.raises(BackendError, match=r"the bucket b is in the region us-east-2")
    with moved as raised, aws.plainly("s3", "the bucket b"):
        client.list_objects_v2(Bucket="b")
    assert raised.value.hint == "set AWS_DEFAULT_REGION=us-east-2"


def test_the_permission_is_named_as_policies_name_it() -> None:
    client = aws.client("s3", "eu-west-1", Meter())
    client.meta.events.register("before-send.s3", lambda **_: AWSResponse("https://b", 403, {}, _Raw(b"")))  # type: ignore[arg-type]
    with pytest.raises(AccessDenied, match=r"does not permit s3:GetObject"), aws.plainly("s3", "the bucket b"):
        client.head_object(Bucket="b", Key="k")


def test_an_endpoint_that_nobody_answers_at_may_answer_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    meter = Meter()
    client = aws.client("dynamodb", "eu-west-1", meter)
    silent = pytest.raises(BackendError, match=r"did not answer.*127\.0\.0\.1:9")
    with silent as raised, aws.plainly("dynamodb", THING):
        client.list_tables()
    assert raised.value.transient
    assert meter.read() == {"ListTables": 1}


@pytest.mark.parametrize(
    "cut",
    [
        ReadTimeoutError(endpoint_url="https://x"),
        ConnectionClosedError(endpoint_url="https://x"),
        ResponseStreamingError(error="cut"),
        SSLError(endpoint_url="https://x", error="bad"),
    ],
    ids=lambda cut: type(cut).__name__,
)
def test_a_connection_that_breaks_may_hold_next_time(cut: Exception) -> None:
    def broken() -> AWSResponse:
        raise cut

    error = failing(broken)
    assert error.transient and "did not answer" in error.message


@pytest.mark.parametrize("region", ["eu west 1", "-"])
def test_a_region_that_cannot_be_one_is_told_before_any_request(region: str) -> None:
    with pytest.raises(BackendError, match=r"no such AWS region") as raised:
        aws.client("dynamodb", region, Meter())
    assert "eu-west-1" in (raised.value.hint or "")


def alone(program: str, home: Path, **environment: str) -> str:
    """What the program prints in a fresh interpreter, where the environment says nothing of AWS."""
    plain = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(home),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    lines = ["import sys", "from kubeq.errors import KubeqError", "from kubeq.metering import Meter", program]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], env=plain | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


LIST = """
from kubeq import aws
try:
    with aws.plainly("dynamodb", "the table t"):
        aws.client("dynamodb", {region}, Meter()).list_tables()
except KubeqError as error:
    print(type(error).__name__, error.message, "|", error.hint)
"""


def test_without_the_sdk_the_hint_is_how_to_get_it(tmp_path: Path) -> None:
    said = alone("sys.modules['boto3'] = None" + LIST.format(region="'eu-west-1'"), tmp_path)
    assert (
        said
        == "BackendError the Python package boto3.exceptions is needed and is not installed | pip install 'kubeq[aws]'"
    )


def test_without_credentials_the_ways_to_get_some_are_named(tmp_path: Path) -> None:
    said = alone(LIST.format(region="'eu-west-1'"), tmp_path)
    assert said.startswith(
        "AccessDenied the table t cannot be used: there are no AWS credentials | log in (aws configure"
    )


def test_a_profile_that_does_not_exist_is_named(tmp_path: Path) -> None:
    said = alone(LIST.format(region="'eu-west-1'"), tmp_path, AWS_PROFILE="nobody")
    assert said.startswith("AccessDenied dynamodb cannot be used: the AWS credentials cannot be had:")
    assert "(nobody)" in said and "AWS_PROFILE" in said


def test_an_expired_log_in_says_how_to_log_in_again(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "[default]\nsso_session=s\nsso_account_id=1\nsso_role_name=r\n"
        "[sso-session s]\nsso_region=eu-west-1\nsso_start_url=https://x\n"
    )
    said = alone(LIST.format(region="'eu-west-1'"), tmp_path, AWS_CONFIG_FILE=str(tmp_path / "config"))
    assert said.startswith("AccessDenied the table t cannot be used: the AWS log-in has expired | log in again")


def test_without_a_region_one_is_asked_for(tmp_path: Path) -> None:
    said = alone(LIST.format(region="None"), tmp_path)
    assert said.startswith("BackendError dynamodb cannot be used: no such AWS region")
