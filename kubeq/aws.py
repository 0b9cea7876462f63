"""The door to AWS: clients of its services, their requests counted, their errors ours. What a backend asks of a service
is the backend's affair; what the errors say is in `aws_errors`.

This is the only module that imports the SDK, on first use. It retries nothing, nor does the SDK: the layers above do
(`store.retry`, the DynamoDB table), which alone know what may be sent again and for how long somebody waits. So every
request that AWS charges for is one that we decided to make, and is counted. Credentials, endpoints and proxies are
found as every program that uses boto3 finds them (environment, ~/.aws, the machine's role); only the region is given.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, overload

from kubeq import __version__
from kubeq.aws_errors import explain
from kubeq.extras import extra
from kubeq.metering import Meter

if TYPE_CHECKING:
    from boto3.session import Session
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_sts import STSClient

CONNECT_S = 5.0
READ_S = 20.0
"""How long a connection may be silent: half of a renewal's interval at the default lease of 120 s."""
PARALLEL = 32
"""Connections that one client keeps open: as many threads may use it at once without waiting for each other."""

_making = threading.Lock()
_session: Session | None = None


@overload
def client(
    service: Literal["dynamodb"], region: str | None, meter: Meter, *, parallel: int = ..., read_s: float = ...
) -> DynamoDBClient: ...
@overload
def client(
    service: Literal["ec2"], region: str | None, meter: Meter, *, parallel: int = ..., read_s: float = ...
) -> EC2Client: ...
@overload
def client(
    service: Literal["iam"], region: str | None, meter: Meter, *, parallel: int = ..., read_s: float = ...
) -> IAMClient: ...
@overload
def client(
    service: Literal["pricing"], region: str | None, meter: Meter, *, parallel: int = ..., read_s: float = ...
) -> Any: ...
@overload
def client(
    service: Literal["s3"], region: str | None, meter: Meter, *, parallel: int = ..., read_s: float = ...
) -> S3Client: ...
@overload
def client(
    service: Literal["service-quotas"], region: str | None, meter: Meter, *, parallel: int = ..., read_s: float = ...
) -> Any: ...
@overload
def client(
    service: Literal["ssm"], region: str | None, meter: Meter, *, parallel: int = ..., read_s: float = ...
) -> SSMClient: ...
@overload
def client(
    service: Literal["sts"], region: str | None, meter: Meter, *, parallel: int = ..., read_s: float = ...
) -> STSClient: ...
def client(service: str, region: str | None, meter: Meter, *, parallel: int = PARALLEL, read_s: float = READ_S) -> Any:
    """A client of the service, safe to use from several threads. Makes no request; takes some 50 ms: keep it.

    Each HTTP request it sends is counted under the operation's name (`PutItem`). Raises BackendError without the SDK,
    for a region that cannot be one, and for a profile that does not exist.
    """
    with plainly(service, service):
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_S,
            read_timeout=read_s,
            max_pool_connections=parallel,
            retries={"mode": "standard", "total_max_attempts": 1},
            tcp_keepalive=True,
            # The store announces the checksum of each object and compares what it reads: others are not worth it.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            user_agent_extra=f"kubeq/{__version__}",
        )
        with _making:  # neither making a session nor making a client of one is thread safe
            made = _the_session().client(service, region_name=region, config=config)  # type: ignore[call-overload]

    def count(event_name: str, **_: object) -> None:
        meter.count(event_name.rpartition(".")[2])

    made.meta.events.register_first(f"before-send.{service}", count)
    return made


@contextmanager
def plainly(service: str, thing: str) -> Iterator[None]:
    """No exception of the SDK's leaves the block: each is one of ours, about `thing` ("the table t in eu-west-1").

    Answers that a backend expects (a condition that failed, a key that is not there) are the backend's to catch inside,
    as `client.exceptions.ClientError` with `code_of`.
    """
    with extra("aws"):
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError  # what reads bodies below the SDK
    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error, HTTPError) as error:
        raise explain(error, service, thing) from error


def known_regions(service: str) -> frozenset[str]:
    """The regions of all partitions in which the SDK knows the service to be. Makes no request."""
    with plainly(service, service), _making:
        session = _the_session()
        found = (session.get_available_regions(service, partition) for partition in session.get_available_partitions())
        return frozenset(region for regions in found for region in regions)


def partition_of(region: str | None) -> str:
    """Which of AWS's clouds the region belongs to, as ARNs name it (`aws`, `aws-cn`, `aws-us-gov`). Makes no request.

    One that cannot be told is taken for one of the first: what is wrong with it the service will say.
    """
    if region is None:
        return "aws"
    with plainly("sts", f"the region {region}"), _making:
        from botocore.exceptions import UnknownRegionError

        try:
            return str(_the_session().get_partition_for_region(region))
        except UnknownRegionError:
            return "aws"


def _the_session() -> Session:
    """The one of this process, so that all clients share the credentials that were fetched."""
    global _session
    if _session is None:
        import boto3

        _session = boto3.session.Session()
    return _session
