"""What a backend needs to exist in a cloud account, and what a node may do there: the words of `kubeq setup`.

The protocol lives here because stores and queues share it and do not know each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One thing that has to exist: a bucket, a table, an index. `about` says in a phrase how it is made."""

    kind: str
    name: str
    stands: bool
    about: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """Exact actions on exact resources, in the words of the cloud's own policies.

    AWS: actions such as `s3:GetObject`, resources as ARNs. Google: permissions such as `storage.objects.get`, resources
    as full resource names.
    """

    actions: tuple[str, ...]
    resources: tuple[str, ...]


class Provisioner(Protocol):
    """Makes what one backend's URL names. Every call that makes requests may raise BackendError."""

    cloud: ClassVar[str]
    """`aws` or `gcp`: in whose policy language the permissions are."""

    @property
    def requests(self) -> Mapping[str, int]:
        """How many requests it has made so far, by the service's own name for each kind."""
        ...

    def survey(self) -> Sequence[Piece]:
        """Everything that is needed, in the order to make it; asks which of it stands."""
        ...

    def create(self, piece: Piece) -> None:
        """Make it and return when it can be used. Idempotent, also when somebody else makes it meanwhile."""
        ...

    def node_permissions(self) -> Sequence[Permission]:
        """The least that a node's identity needs; makes no request."""
        ...
