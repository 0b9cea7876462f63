"""What a store in Cloud Storage needs, and what a node may do there: the words and deeds of `kubeq setup`.

A bucket that nobody outside can read, and a rule in it that removes the parts of uploads that were never joined. Made
by us it also has uniform access (permissions are the bucket's, not each object's) and no soft deletion (what kubeq
deletes would be paid for another week). Everything else about a bucket is its owner's affair and is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import SplitResult

from google.api_core.exceptions import Conflict as Taken
from google.api_core.exceptions import NotFound, PreconditionFailed

from kubeq.core.provisioning import Permission, Piece
from kubeq.errors import AccessDenied, BackendError, Conflict
from kubeq.store.bucket_urls import parse_url
from kubeq.store.gcs_bucket import TIMEOUT_S, Bucket
from kubeq.store.gcs_parts import PARTS
from kubeq.store.patience import Patience

BUCKET, CLOSED, RULE = "bucket", "public access prevention", "lifecycle rule"
UNFINISHED_DAYS = 7
"""After so long nobody joins parts any more; kubeq itself gives up after minutes."""
_ENFORCED = "enforced"
_OBJECTS = ("storage.objects.create", "storage.objects.delete", "storage.objects.get")
_LIST = "storage.objects.list"


class GcsProvisioner:
    """Makes a bucket, in `region` or where Google chooses, and in `project` or that of the credentials.

    Each request is repeated where it failed for a moment.
    """

    cloud: ClassVar[str] = "gcp"

    def __init__(
        self,
        bucket: Bucket,
        prefix: str = "",
        *,
        region: str | None = None,
        project: str | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._bucket = bucket
        self._root = f"{prefix}/" if prefix else ""
        self._parts = f"{self._root}{PARTS}/"
        self._region = region
        self._project = project
        self._again = (patience or Patience()).repeat

    @property
    def requests(self) -> Mapping[str, int]:
        """See Provisioner."""
        return self._bucket.meter.read()

    def survey(self) -> Sequence[Piece]:
        """The bucket, its being closed to the public, and the rule. Request: `buckets.get`.

        Raises AccessDenied for a bucket of somebody else's.
        """
        name, found = self._bucket.name, self._again(self._look)
        where = "where Google puts buckets that name no place" if self._region is None else f"in {self._region}"
        about = f"{'stands' if found else where}; objects are encrypted by Google itself"
        days = f"parts of uploads that were given up are removed after {UNFINISHED_DAYS} days"
        return [
            Piece(kind=BUCKET, name=name, stands=found is not None, about=about),
            Piece(kind=CLOSED, name=name, stands=_closed(found), about="nobody outside can read it"),
            Piece(kind=RULE, name=name, stands=self._ruled(found), about=days),
        ]

    def create(self, piece: Piece) -> None:
        """Make it; what stands already, or was made by somebody else meanwhile, is left alone."""
        deeds: dict[str, Callable[[], None]] = {BUCKET: self._make, CLOSED: self._close, RULE: self._add_rule}
        self._again(deeds[piece.kind])

    def node_permissions(self) -> Sequence[Permission]:
        """To read, write and delete objects below the prefix, and to list the bucket."""
        bucket = f"//storage.googleapis.com/projects/_/buckets/{self._bucket.name}"
        if not self._root:
            return [Permission(actions=(*_OBJECTS, _LIST), resources=(bucket,))]
        return [
            Permission(actions=_OBJECTS, resources=(f"{bucket}/objects/{self._root}",)),
            Permission(actions=(_LIST,), resources=(bucket,)),
        ]

    def _look(self) -> Any | None:
        """Google's handle of the bucket with all its settings; None if there is no bucket of that name."""
        bucket = self._bucket.client.bucket(self._bucket.name)
        with self._bucket.errors(f"look at {self._bucket}"):
            try:
                bucket.reload(timeout=TIMEOUT_S, retry=None)
            except NotFound:
                return None
        return bucket

    def _standing(self) -> Any:
        bucket = self._look()
        if bucket is None:
            raise BackendError(f"{self._bucket} was made and does not show yet", transient=True)
        return bucket

    def _make(self) -> None:
        client = self._bucket.client
        project = self._project or client.project
        if project is None:
            raise BackendError(
                f"could not make {self._bucket}: it is not known in which project",
                hint="gcloud config set project PROJECT, or name it in the configuration: project = PROJECT",
            )
        made = client.bucket(self._bucket.name)
        made.iam_configuration.uniform_bucket_level_access_enabled = True
        made.iam_configuration.public_access_prevention = _ENFORCED
        made.soft_delete_policy.retention_duration_seconds = 0
        made.add_lifecycle_delete_rule(age=UNFINISHED_DAYS, matches_prefix=[self._parts])
        with self._bucket.errors(f"make {self._bucket}"):
            try:
                client.create_bucket(made, project=project, location=self._region, timeout=TIMEOUT_S, retry=None)
            except Taken:
                self._require_ours()

    def _require_ours(self) -> None:
        try:
            self._standing()
        except AccessDenied as error:
            raise Conflict(
                f"{self._bucket} cannot be made: somebody else has a bucket of that name",
                hint="choose another name; bucket names are shared by everybody",
            ) from error

    def _close(self) -> None:
        bucket = self._standing()
        if not _closed(bucket):
            bucket.iam_configuration.public_access_prevention = _ENFORCED
            self._change(bucket)

    def _ruled(self, bucket: Any | None) -> bool:
        return bucket is not None and any(self._covers(rule) for rule in bucket.lifecycle_rules)

    def _covers(self, rule: Any) -> bool:
        condition = rule.get("condition", {})
        return (
            rule.get("action", {}).get("type") == "Delete"
            and condition.keys() <= {"age", "matchesPrefix"}
            and any(self._parts.startswith(prefix) for prefix in condition.get("matchesPrefix", [""]))
        )

    def _add_rule(self) -> None:
        bucket = self._standing()
        if not self._ruled(bucket):
            bucket.add_lifecycle_delete_rule(age=UNFINISHED_DAYS, matches_prefix=[self._parts])
            self._change(bucket)

    def _change(self, bucket: Any) -> None:
        """Send what was changed of the settings, unless they are no longer those that were read."""
        with self._bucket.errors(f"change {self._bucket}"):
            try:
                bucket.patch(if_metageneration_match=bucket.metageneration, timeout=TIMEOUT_S, retry=None)
            except PreconditionFailed as error:
                raise BackendError(f"the settings of {self._bucket} were just changed", transient=True) from error


def _closed(bucket: Any | None) -> bool:
    return bucket is not None and bucket.iam_configuration.public_access_prevention == _ENFORCED


def open_gcs_provisioner(parts: SplitResult, region: str | None, project: str | None) -> GcsProvisioner:
    """What makes the store at that URL, in that region and project."""
    bucket, prefix = parse_url(parts)
    return GcsProvisioner(Bucket(bucket), prefix, region=region, project=project)
