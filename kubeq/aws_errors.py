"""What AWS and its SDK say, as errors of ours: one sentence and a hint each. Raises nothing and imports no SDK.

An SDK exception is known by the name of its class, a service's answer by its error code; both are documented.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from kubeq.errors import AccessDenied, BackendError

SKEW_S = 240.0
"""AWS refuses requests whose time is more than 5 minutes from its own (15 for S3); said from 4 on, where a refused
signature is more likely the clock's fault than the key's."""
LONGEST_QUOTE = 300
"""Characters of AWS's own words: an encoded authorization message would fill the screen."""

DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "Forbidden", "403"}
UNKNOWN_KEY = {"UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "AuthFailure"}
BAD_SIGNATURE = {"SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature"}
SKEWED = {"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"}
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"}
THROTTLED = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
    "429",
}
PASSING = {
    "BadDigest",
    "ConditionalRequestConflict",
    "IDPCommunicationError",
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "OperationAborted",
    "ReplicatedWriteConflictException",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "TransactionConflictException",
    "TransactionInProgressException",
    "Unavailable",
}
MISSING = {"ResourceNotFoundException", "TableNotFoundException", "NoSuchBucket"}
ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
NO_INDEX = "does not have the specified index"
NOT_ENABLED = {"OptInRequired", "SubscriptionRequiredException"}

NO_CREDENTIALS = {"NoCredentialsError", "NoAuthTokenError"}
BAD_CREDENTIALS = {
    "ConfigParseError",
    "CredentialRetrievalError",
    "InfiniteLoopConfigError",
    "InvalidConfigError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "UnknownCredentialError",
}
LOG_IN_AGAIN = {
    "LoginRefreshRequired",
    "LoginTokenLoadError",
    "SSOTokenLoadError",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
}
BAD_REGION = {"InvalidRegionError", "NoRegionError", "UnknownEndpointError", "UnknownRegionError"}
UNREACHABLE = {
    "ConnectionClosedError",
    "ConnectionError",
    "ConnectTimeoutError",
    "EndpointConnectionError",
    "HTTPClientError",
    "HTTPError",
    "IncompleteReadError",
    "MetadataRetrievalError",
    "ProxyConnectionError",
    "ReadTimeoutError",
    "ResponseStreamingError",
    "SSLError",
}
PERMISSIONS = {
    "s3:CompleteMultipartUpload": "s3:PutObject",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:GetObjectAttributes": "s3:GetObject",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:ListParts": "s3:ListMultipartUploadParts",
    "s3:UploadPart": "s3:PutObject",
}
"""The permission that an operation needs where its name is another; of the actions table in the S3 user guide."""


def code_of(error: Exception) -> str:
    """The error code of a service's answer (`ConditionalCheckFailedException`, for S3 also `404`); else empty."""
    return str(_answer(error).get("Error", {}).get("Code", ""))


def explain(error: Exception, service: str, thing: str) -> BackendError:
    """The SDK's error as one of ours, about `thing`."""
    if code_of(error):
        return _of_an_answer(error, service, thing)
    return _of_no_answer(error, thing)


def _of_no_answer(error: Exception, thing: str) -> BackendError:
    """What the SDK found out by itself."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & NO_CREDENTIALS:
        hint = "log in (aws configure, or aws sso login), name a profile in AWS_PROFILE, or give this machine a role"
        return AccessDenied(f"{thing} cannot be used: there are no AWS credentials", hint=hint)
    if names & LOG_IN_AGAIN:
        return AccessDenied(
            f"{thing} cannot be used: the AWS log-in has expired", hint="log in again: aws sso login, or aws login"
        )
    if names & BAD_CREDENTIALS:
        return AccessDenied(
            f"{thing} cannot be used: the AWS credentials cannot be had: {_quoted(error)}",
            hint="look at AWS_PROFILE, ~/.aws/config and ~/.aws/credentials",
        )
    if names & BAD_REGION:
        return BackendError(
            f"{thing} cannot be used: no such AWS region: {_quoted(error)}",
            hint="correct the region in the URL, or set AWS_DEFAULT_REGION; it looks like eu-west-1",
        )
    if names & UNREACHABLE:
        return BackendError(
            f"{thing} did not answer: {_quoted(error)}",
            hint="look at the network, the proxy settings and the name of the region",
            transient=True,
        )
    return BackendError(f"{thing} could not be asked: {_quoted(error)}")


def _of_an_answer(error: Exception, service: str, thing: str) -> BackendError:
    """What the service said."""
    code, skew_s = code_of(error), _skew_s(error)
    status = int(_answer(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in SKEWED or (code in BAD_SIGNATURE and abs(skew_s) > SKEW_S):
        side = "ahead of" if skew_s < 0 else "behind"
        return AccessDenied(
            f"{thing} refused the request: this machine's clock is {abs(skew_s):.0f} seconds {side} that of AWS",
            hint="set the clock, best by a time service: timedatectl set-ntp true",
        )
    if code in EXPIRED:
        hint = "log in again (aws sso login), or renew what AWS_SESSION_TOKEN or ~/.aws/credentials holds"
        return AccessDenied(f"{thing} refused the request: the AWS credentials have expired", hint=hint)
    if code in UNKNOWN_KEY or code in BAD_SIGNATURE:
        part = "access key" if code in UNKNOWN_KEY else "secret key that belongs to the access key"
        return AccessDenied(
            f"{thing} refused the request: AWS does not know the {part}",
            hint="look at AWS_PROFILE, AWS_ACCESS_KEY_ID and ~/.aws/credentials, and whether the region is enabled",
        )
    if code in DENIED:
        return _denied(error, service, thing)
    if code in MISSING:
        return BackendError(f"{thing} does not exist", hint="kubeq setup makes it; or correct the name and the region")
    if code == "ValidationException" and NO_INDEX in _words(error):
        return BackendError(
            f"{thing} is not complete: {_words(error)}", hint="kubeq setup makes the index that is missing"
        )
    if code in ELSEWHERE:
        return _elsewhere(error, thing)
    if code in NOT_ENABLED:
        return AccessDenied(f"{thing} cannot be used: the AWS account has not enabled it: {_words(error)}")
    if code in THROTTLED or status == 429:
        hint = "nothing is lost; it goes on when AWS lets it, with fewer agents or commands at once sooner"
        return BackendError(f"{thing} is throttled by AWS ({code})", hint=hint, transient=True)
    if code in PASSING or status >= 500:
        return BackendError(
            f"{thing} did not do what it was asked for now: {code}: {_words(error)}",
            hint="repeat it; if it stays so, see https://health.aws.amazon.com",
            transient=True,
        )
    return BackendError(f"{thing} refused {_operation(error)}: {code}: {_words(error)}")


def _denied(error: Exception, service: str, thing: str) -> AccessDenied:
    action = f"{service}:{_operation(error)}"
    action = PERMISSIONS.get(action, action)
    return AccessDenied(
        f"{thing} cannot be used: AWS does not permit {action}: {_words(error)}",
        hint=f"let an administrator allow {action} to this identity; kubeq setup --dry-run prints the least policy",
    )


def _elsewhere(error: Exception, thing: str) -> BackendError:
    headers: Mapping[str, str] = _answer(error).get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or _answer(error).get("Error", {}).get("Region")
    where = f"the region {region}" if region else "another region"
    return BackendError(f"{thing} is in {where}", hint=f"set AWS_DEFAULT_REGION={region or 'to that one'}")


def _skew_s(error: Exception) -> float:
    """How far the clock of AWS is ahead of ours, by the answer's own date; 0 where it has none."""
    headers = _answer(error).get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        return parsedate_to_datetime(headers["date"]).timestamp() - time.time()
    except (KeyError, ValueError):
        return 0.0


def _answer(error: Exception) -> Mapping[str, Any]:
    """The answer as the SDK read it; nothing where there was none."""
    found: Any = getattr(error, "response", None)
    return found if isinstance(found, dict) else {}


def _operation(error: Exception) -> str:
    return str(getattr(error, "operation_name", "the request"))


def _words(error: Exception) -> str:
    """AWS's own explanation."""
    return _short(str(_answer(error).get("Error", {}).get("Message") or "it gave no reason"))


def _quoted(error: Exception) -> str:
    return _short(str(error))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_QUOTE else f"{line[:LONGEST_QUOTE]}..."
